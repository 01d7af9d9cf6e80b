// Convolutions and inner products with packed weights, in bf16 or fp32, summed in fp32, for passes
// that no backward follows: on the matrices of AMX, which multiply bf16. Images lie as (N, H, W, C).
//
// A float is the sum of three bf16: its first 8 bits, the next, and the rest; a weight's are rounded,
// so that they may be negative. Of the nine products of two floats' parts the six largest are summed.
// The others are below 2^-22 of the whole together, what fp32 rounds is 2^-24 each time that it adds.
// A value that is not finite spoils its sums.
//
// What the pixels of a row see is a run: kernel_x C values, or C if the kernel is dilated, filled up
// to a multiple of 32. A chunk is some tiles of 16 pixels. All that they see is copied as
// (tiles, pieces of 32, parts, 16 pixels, 32); weights are packed as (panels of 32 outputs, pieces,
// parts, halves, 16 pairs, 16 outputs, 2), the values of a pair side by side or, in fp32, 16 apart.
// Blocks of pieces are so small that a panel's part stays in the first cache while all tiles go over
// it.

#include "channels.h"
#include "threads.h"

#ifdef __AMX_BF16__
#include <sys/syscall.h>
#include <unistd.h>

namespace {

constexpr int PIXELS = 16, PIECE = 32;           // of a tile, and values of a pixel
constexpr int TILE = PIXELS * PIECE;             // in values
template <class T>
constexpr int PARTS = sizeof(T) == sizeof(bfloat16) ? 1 : 3;
constexpr int SUMS = 2 * PIXELS * PANEL;         // of two tiles, as (tiles, halves, 16 pixels, 16)

class Multiplier {
public:
    Multiplier() {
        struct {
            uint8_t palette = 1, start = 0, reserved[14] = {};
            uint16_t bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
            uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
        } config;
        asm volatile("" ::"r"(&config) : "memory");  // GCC 12 believes that only 8 bytes are read
        _tile_loadconfig(&config);
    }
    ~Multiplier() { _tile_release(); }

    // Adds two tiles, `next` values apart, times a panel's weights to sums, or to zero.
    template <int PARTS>
    void run(const bfloat16* x, long next, const bfloat16* w, int pieces, float* sums,
             bool begins) const {
        constexpr int LINE = 64, PART = PIXELS * LANES;
        asm volatile("" ::: "memory");  // tiles are read and written unknown to the compiler
        if (begins) {
            _tile_zero(0);
            _tile_zero(1);
            _tile_zero(2);
            _tile_zero(3);
        } else {
            _tile_loadd(0, sums, LINE);
            _tile_loadd(1, sums + PART, LINE);
            _tile_loadd(2, sums + 2 * PART, LINE);
            _tile_loadd(3, sums + 3 * PART, LINE);
        }
        auto values = [&](int part) {
            _tile_loadd(4, x + part * TILE, LINE);
            _tile_loadd(5, x + next + part * TILE, LINE);
        };
        auto weights = [&](int part) {
            _tile_loadd(6, w + 2 * part * TILE, LINE);
            _tile_loadd(7, w + (2 * part + 1) * TILE, LINE);
        };
        auto multiply = [] {
            _tile_dpbf16ps(0, 4, 6);
            _tile_dpbf16ps(1, 4, 7);
            _tile_dpbf16ps(2, 5, 6);
            _tile_dpbf16ps(3, 5, 7);
        };
        for (int piece = 0; piece < pieces; ++piece, x += PARTS * TILE, w += 2 * PARTS * TILE) {
            values(0), weights(0), multiply();
            if (PARTS == 1) continue;
            weights(1), multiply();
            values(1), multiply();
            weights(0), multiply();
            values(2), multiply();
            values(0), weights(2), multiply();
        }
        _tile_stored(0, sums, LINE);
        _tile_stored(1, sums + PART, LINE);
        _tile_stored(2, sums + 2 * PART, LINE);
        _tile_stored(3, sums + 3 * PART, LINE);
        asm volatile("" ::: "memory");
    }
};

bool is_allowed() {  // the system saves tiles for who asks
    constexpr int REQUEST = 0x1023, TILE_DATA = 18;
    static const bool allowed = syscall(SYS_arch_prctl, REQUEST, TILE_DATA) == 0;
    return allowed;
}

// Some of 16 values, and zeros.
inline Floats load_some(const float* from, __mmask16 some) {
    return reinterpret_cast<Floats>(_mm512_maskz_loadu_ps(some, from));
}
inline Floats load_some(const bfloat16* from, __mmask16 some) {
    bfloat16 values[LANES];
    _mm256_storeu_si256((__m256i*)values, _mm256_maskz_loadu_epi16(some, from));
    return load(values);
}
inline void store_some(float* to, __mmask16 some, Floats values) {
    _mm512_mask_storeu_ps(to, some, reinterpret_cast<__m512>(values));
}
inline void store_some(bfloat16* to, __mmask16 some, Floats values) {
    bfloat16 rounded[LANES];
    store(rounded, values);
    _mm256_mask_storeu_epi16(to, some, _mm256_loadu_si256((__m256i*)rounded));
}

// Copies a pixel's 32 values, zeros for those not `inside`, as their parts: one a tile.
inline void put(const bfloat16* from, __mmask32 inside, bfloat16* to) {
    _mm512_storeu_si512(to, _mm512_maskz_loadu_epi16(inside, from));
}
// Of floats the upper halves are parts; the values of a pair are 16 apart.
inline void put(const float* from, __mmask32 inside, bfloat16* to) {
    const __m512i upper = _mm512_set1_epi32(0xffff0000);
    __m512 first = _mm512_maskz_loadu_ps((__mmask16)inside, from);
    __m512 second = _mm512_maskz_loadu_ps((__mmask16)(inside >> LANES), from + LANES);
    for (int part = 0; part < PARTS<float>; ++part, to += TILE) {
        __m512i one = _mm512_and_si512(_mm512_castps_si512(first), upper);
        __m512i other = _mm512_and_si512(_mm512_castps_si512(second), upper);
        _mm512_storeu_si512(to, _mm512_or_si512(_mm512_srli_epi32(one, 16), other));
        first = _mm512_sub_ps(first, _mm512_castsi512_ps(one));
        second = _mm512_sub_ps(second, _mm512_castsi512_ps(other));
    }
}

template <class T>
class Tiles {
public:
    Tiles(const StepOf<T>& step, int threads) : s_(step), first_(first_of(step)) {
        joins_ = s_.x.dilation == 1;
        length_ = joins_ ? s_.x.kernel * s_.inputs : s_.inputs;
        pieces_ = over(length_, PIECE);
        all_pieces_ = pieces_ * s_.y.kernel * (joins_ ? 1 : s_.x.kernel);
        if (s_.first_weights) all_pieces_ = pieces_ = over(s_.inputs, PIECE);
        rows_ = (long)s_.count * s_.y.tops * s_.x.tops;
        panels_ = over(s_.outputs, PANEL);
        tiles_ = over(rows_, PIXELS);
        long most = std::clamp(CHUNK / (all_pieces_ * WHOLE), 2L, MOST_TILES);
        chunks_ = std::max(over(tiles_, most), std::min<long>(threads, tiles_ / LEAST_TILES));
    }

    long chunks() const { return chunks_; }
    long units() const { return chunks_ * panels_; }

    void operator()(long begin, long end) const {
        Multiplier multiplier;
        const Parts part(tiles_, chunks_);
        for (long last; begin < end; begin = last) {
            long chunk = begin / panels_;
            last = std::min(end, (chunk + 1) * panels_);
            long first_tile = part.begin(chunk), last_tile = part.begin(chunk + 1);
            long pairs = over(last_tile - first_tile, 2), size = all_pieces_ * WHOLE;
            float* sums = scratch<Tiles>(pairs * SUMS + pairs * size);  // pairs * 2 * size halves
            bfloat16* copy = (bfloat16*)(sums + pairs * SUMS);
            for (long tile = first_tile; tile < last_tile; ++tile)
                gather(tile, copy + (tile - first_tile) * size);
            for (long unit = begin; unit < last; ++unit) {
                int panel = unit % panels_;
                const bfloat16* w = (const bfloat16*)s_.weights + panel * 2L * size;
                for (long piece = 0; piece < all_pieces_; piece += BLOCK)
                    for (long pair = 0; pair < pairs; ++pair) {
                        int pieces = std::min<long>(BLOCK, all_pieces_ - piece);
                        multiplier.template run<PARTS<T>>(
                            copy + 2 * pair * size + piece * WHOLE, size, w + piece * 2 * WHOLE,
                            pieces, sums + pair * SUMS, piece == 0);
                        if (piece + pieces == all_pieces_)
                            finish(first_tile + 2 * pair, last_tile, panel, sums + pair * SUMS);
                    }
            }
        }
    }

private:
    static constexpr long WHOLE = PARTS<T> * TILE;   // a tile's piece, with all parts
    static constexpr int BLOCK = 8 / PARTS<T>;       // pieces
    // Parts and tiles of a chunk at most.
    static constexpr long CHUNK = PARTS<T> == 1 ? 1 << 18 : 1 << 19;
    static constexpr long LEAST_TILES = 4, MOST_TILES = PARTS<T> == 1 ? 32 : 16;

    void convolve(long begin, long end, bfloat16* to) const {
        Channels<T> make(first_);
        T values[TILE];
        for (int c = 0; c < s_.inputs; c += PIECE, to += WHOLE) {
            int last = std::min(c + PIECE, s_.inputs);
            T *made = PARTS<T> == 1 ? (T*)to : values, *place = made;
            if (last < c + PIECE) memset((void*)made, 0, TILE * sizeof(T));
            for (long row = begin; row < end;) {
                int some = std::min(end - row, s_.x.tops - row % s_.x.tops);
                make(row, some, c, last, place, PIECE, LANES);
                row += some;
                place += some * PIECE;
            }
            if (PARTS<T> > 1)
                for (int pixel = 0; pixel < end - begin; ++pixel)
                    put(made + pixel * PIECE, ~0u, to + pixel * PIECE);
        }
    }

    // Copies, or makes, all that the pixels of a tile see.
    void gather(long tile, bfloat16* to) const {
        long begin = tile * PIXELS, end = std::min(begin + PIXELS, rows_);
        if (s_.first_weights) return convolve(begin, end, to);
        bool is_pointwise = s_.y.kernel * s_.x.kernel * s_.y.stride * s_.x.stride == 1;
        if (is_pointwise && s_.y.pad + s_.x.pad == 0) return gather_rows(begin, end, to);
        int x = begin % s_.x.tops, y = begin / s_.x.tops % s_.y.tops;
        long image = begin / s_.x.tops / s_.y.tops;
        for (long row = begin; row < end; ++row, to += PIECE) {
            gather_pixel(s_.image + image * s_.y.size * s_.x.size * s_.image_pixel, s_.y.start(y),
                         s_.x.start(x), to);
            if (++x < s_.x.tops) continue;
            x = 0;
            if (++y < s_.y.tops) continue;
            y = 0, ++image;
        }
    }

    void gather_rows(long begin, long end, bfloat16* to) const {
        for (int c = 0; c < s_.inputs; c += PIECE, to += WHOLE) {
            auto exist = (__mmask32)((1ull << std::min(PIECE, s_.inputs - c)) - 1);
            for (long row = begin; row < end; ++row)
                put(s_.image + row * s_.image_pixel + c, exist, to + (row - begin) * PIECE);
        }
    }

    void gather_pixel(const T* image, int y, int x, bfloat16* to) const {
        int across = joins_ ? 1 : s_.x.kernel, pixels = joins_ ? s_.x.kernel : 1;
        for (int ky = 0; ky < s_.y.kernel; ++ky) {
            int row = y + ky * s_.y.dilation;
            const T* line = image + (long)row * s_.x.size * s_.image_pixel;
            for (int kx = 0; kx < across; ++kx, to += pieces_ * WHOLE) {
                int column = x + kx * s_.x.dilation, first = std::clamp(-column, 0, pixels);
                int last = std::clamp(s_.x.size - column, first, pixels);
                if (row < 0 || row >= s_.y.size) last = first;
                gather_run(line + column * s_.image_pixel, first * s_.inputs, last * s_.inputs, to);
            }
        }
    }

    // Copies a run's values from `begin` to `end`; before and after are zeros.
    void gather_run(const T* from, int begin, int end, bfloat16* to) const {
        auto up_to = [](int value) { return (1ull << std::clamp(value, 0, PIECE)) - 1; };
        for (int at = 0; at < length_; at += PIECE, to += WHOLE)
            put(from + at, (__mmask32)(up_to(end - at) & ~up_to(begin - at)), to);
    }

    // Makes tops of the sums of two tiles, or of one if it is the last.
    void finish(long tile, long last_tile, int panel, const float* sums) const {
        int halves = std::min<long>(2, over(s_.outputs - panel * PANEL, LANES));
        for (long end = std::min(tile + 2, last_tile); tile < end; ++tile, sums += 2 * PIXELS * LANES)
            for (int half = 0; half < halves; ++half)
                finish_half(tile, panel * PANEL + half * LANES, sums + half * PIXELS * LANES);
    }

    // The same for 16 outputs of a tile, from `first` on.
    void finish_half(long tile, int first, const float* sums) const {
        auto exist = (__mmask16)((1u << std::min(LANES, s_.outputs - first)) - 1);
        Floats bias = load(s_.bias + first);
        long end = std::min((tile + 1) * PIXELS, rows_), at = tile * PIXELS * s_.top_pixel + first;
        for (long row = tile * PIXELS; row < end; ++row, sums += LANES, at += s_.top_pixel) {
            Floats value = load(sums) + bias;
            if (s_.other) value += load_some(s_.other + at, exist);
            store_some(s_.top + at, exist, s_.rectify ? positive(value) : value);
        }
    }

    const StepOf<T>& s_;
    const StepOf<T> first_;
    bool joins_;
    int length_, pieces_, panels_;
    long all_pieces_, rows_, tiles_, chunks_;
};

template <class T>
void convolve(const StepOf<T>& step, int threads) {
    is_allowed();  // asks, if nobody has
    Tiles<T> tiles(step, threads);
    in_turns(threads, tiles.chunks() / threads, tiles.units(),
             [&](long begin, long end) { tiles(begin, end); });
}

}  // namespace

extern "C" bool has_tiles() { return is_allowed(); }

extern "C" void convolve_tiles(const StepOf<float>* step, int threads) { convolve(*step, threads); }

extern "C" void convolve_tiles_bf16(const StepOf<bfloat16>* step, int threads) {
    convolve(*step, threads);
}

#else

extern "C" bool has_tiles() { return false; }
extern "C" void convolve_tiles(const StepOf<float>*, int) {}
extern "C" void convolve_tiles_bf16(const StepOf<bfloat16>*, int) {}

#endif
