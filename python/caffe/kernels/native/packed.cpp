// Convolutions with packed weights, for passes that no backward follows. Images lie as (N, H, W, C).
//
// Weights are packed as (panels, kernel_y, kernel_x, C, 32); see steps.h. What a pixel sees of a row
// of the image lies together and is one run over weights that lie together, too. A chunk is as many
// tiles as leave its part of the image in the cache while one panel after the other goes over it.

#include <vector>

#include "steps.h"
#include "threads.h"

namespace {

constexpr int AHEAD_X = 32, AHEAD_W = 12 * PANEL;   // what is fetched meanwhile, in values
constexpr long MANY_WEIGHTS = 1 << 17;              // they pass the cache by, so images stay in it
constexpr long LARGE_CHUNK = 1 << 17, SMALL_CHUNK = 1 << 13;  // values of the image
constexpr int PADDED_ROWS = 4;                      // of a chunk at least, where rows are copied

struct Run {  // over `length` values of the image, from these places on
    long image, weights;
    int length;
};

// Pixels of one row, and perhaps of the row below it.
struct Tile {
    const float *image, *weights;
    Sums sums;
    long pixel, row;          // from one to the next in the image, in values
    long top_pixel, top_row;  // and in top
};

template <int FIRST, int SECOND>
void compute(const Tile& t, const std::vector<Run>& runs) {
    constexpr int ALL = FIRST + SECOND;
    auto at = [](int p, long pixel, long row) {
        return p < FIRST ? p * pixel : row + (p - FIRST) * pixel;
    };
    Floats sums[ALL][2];
    auto place = [&](int p) { return at(p, t.top_pixel, t.top_row); };
    t.sums.begin<ALL>(place, sums);
    for (const Run& run : runs) {
        const float *x = t.image + run.image, *w = t.weights + run.weights;
        for (int from = 0; from < run.length; from += LANES) {
            int to = std::min(run.length, from + LANES);
#pragma GCC unroll 14
            for (int p = 0; p < ALL; ++p)
                __builtin_prefetch(x + at(p, t.pixel, t.row) + from + AHEAD_X);
            for (int k = from; k < to; ++k, w += PANEL) {
                Floats low = load(w), high = load(w + LANES);
                __builtin_prefetch(w + AHEAD_W);
                __builtin_prefetch(w + AHEAD_W + LANES);
#pragma GCC unroll 14
                for (int p = 0; p < ALL; ++p) {
                    Floats value = x[at(p, t.pixel, t.row) + k] - Floats{};
                    sums[p][0] += value * low;
                    sums[p][1] += value * high;
                }
            }
        }
    }
    t.sums.finish<ALL>(place, sums);
}

typedef void (*Compute)(const Tile&, const std::vector<Run>&);
constexpr Compute ONE_ROW[] = {
    compute<1, 0>, compute<2, 0>, compute<3, 0>,  compute<4, 0>,  compute<5, 0>,
    compute<6, 0>, compute<7, 0>, compute<8, 0>,  compute<9, 0>,  compute<10, 0>,
    compute<11, 0>, compute<12, 0>, compute<13, 0>, compute<14, 0>};
constexpr Compute TWO_ROWS[] = {compute<1, 1>, compute<2, 2>, compute<3, 3>, compute<4, 4>,
                                compute<5, 5>, compute<6, 6>, compute<7, 7>};

class Convolution {
public:
    explicit Convolution(const Step& step) : s_(step), pixel_(step.image_pixel) {
        bool is_pointwise = s_.y.kernel * s_.x.kernel == 1 && s_.y.stride * s_.x.stride == 1 &&
                            s_.y.pad + s_.x.pad == 0;
        if (is_pointwise) {  // one long row
            s_.x.size = s_.x.tops = s_.count * s_.y.size * s_.x.size;
            s_.count = s_.y.size = s_.y.tops = 1;
        }
        pads_ = s_.y.pad + s_.x.pad > 0;
        width_ = s_.x.size + 2 * s_.x.pad;
        if (pads_) pixel_ = s_.inputs;  // of the copy
        panels_ = over(s_.outputs, PANEL);
        panel_size_ = (long)s_.y.kernel * s_.x.kernel * s_.inputs * PANEL;
        find_runs();
        rows_ = 2 * s_.x.tops <= MOST_PIXELS && s_.y.tops > 1 ? 2 : 1;
        across_ = over(s_.x.tops, MOST_PIXELS);
        tiles_ = over(s_.y.tops, rows_) * across_;
        long chunk = panel_size_ * panels_ > MANY_WEIGHTS ? LARGE_CHUNK : SMALL_CHUNK;
        long seen = (long)rows_ * s_.x.tops / across_ * s_.y.stride * s_.x.stride * s_.inputs;
        chunk_ = std::max(chunk / std::max(seen, 1L), 1L);
        if (pads_) chunk_ = std::max(chunk_, (long)PADDED_ROWS * across_);
        chunk_ = std::min(chunk_, tiles_);
        chunks_ = over(tiles_, chunk_);
    }

    long chunks() const { return s_.count * chunks_; }
    long units() const { return chunks() * panels_; }

    void operator()(long begin, long end) const {
        float* copy = nullptr;
        for (long unit = begin; unit < end; ++unit) {
            long chunk = unit / panels_, image = chunk / chunks_;
            long from = chunk % chunks_ * chunk_, to = std::min(from + chunk_, tiles_);
            int first_row = s_.y.start(from / across_ * rows_);
            const float* x =
                s_.image + (image * s_.y.size + first_row) * s_.x.size * s_.image_pixel;
            if (pads_) {
                if (unit == begin || unit % panels_ == 0)
                    copy = padded(x, first_row, (to - 1) / across_ * rows_ + rows_ - 1);
                x = copy;
            }
            for (long tile = from; tile < to; ++tile)
                run(x, first_row, image, tile, unit % panels_);
        }
    }

private:
    void find_runs() {
        bool joins = s_.x.dilation == 1 && pixel_ == s_.inputs;
        int across = joins ? 1 : s_.x.kernel, length = joins ? s_.x.kernel * s_.inputs : s_.inputs;
        for (int y = 0; y < s_.y.kernel; ++y)
            for (int x = 0; x < across; ++x)
                runs_.push_back({(y * s_.y.dilation * width_ + x * s_.x.dilation) * pixel_,
                                 ((long)y * s_.x.kernel + x) * s_.inputs * PANEL, length});
    }

    // A copy of the rows that the tops up to row `last` see, with zeros around the image.
    float* padded(const float* from, int first, int last) const {
        int rows = s_.y.start(std::min(last, s_.y.tops - 1)) + s_.y.reach() - first;
        long row_size = width_ * s_.inputs, margin = (long)s_.x.pad * s_.inputs;
        float* copy = scratch<Convolution>(rows * row_size);
        for (int row = 0; row < rows; ++row, from += s_.x.size * s_.image_pixel) {
            float *begin = copy + row * row_size, *end = begin + row_size, *to = begin + margin;
            if (first + row < 0 || first + row >= s_.y.size) {
                std::fill(begin, end, 0.0f);
                continue;
            }
            std::fill(begin, to, 0.0f);
            bool joins = s_.image_pixel == s_.inputs;
            int pieces = joins ? 1 : s_.x.size, piece = joins ? s_.x.size * s_.inputs : s_.inputs;
            for (int x = 0; x < pieces; ++x, to += piece)
                memcpy(to, from + x * s_.image_pixel, piece * sizeof(float));
            std::fill(to, end, 0.0f);
        }
        return copy;
    }

    void run(const float* x, int first_row, long image, long tile, int panel) const {
        int row = tile / across_ * rows_, part = tile % across_;
        int column = (long)s_.x.tops * part / across_;
        int pixels = (long)s_.x.tops * (part + 1) / across_ - column;
        long top = (image * s_.y.tops + row) * s_.x.tops + column;
        Tile t{x + (s_.y.start(row) - first_row) * width_ * pixel_ +
                   (long)column * s_.x.stride * pixel_,
               s_.weights + panel * panel_size_,
               Sums::of(s_, top, panel),
               s_.x.stride * pixel_,
               s_.y.stride * width_ * pixel_,
               s_.top_pixel,
               s_.x.tops * s_.top_pixel};
        bool two = rows_ == 2 && row + 1 < s_.y.tops;
        (two ? TWO_ROWS : ONE_ROW)[pixels - 1](t, runs_);
    }

    Step s_;
    std::vector<Run> runs_;
    bool pads_;
    int panels_, rows_;
    long pixel_, width_, panel_size_, across_, tiles_, chunk_, chunks_;
};

}  // namespace

extern "C" void convolve_packed(const Step* step, int threads) {
    Convolution convolution(*step);
    in_turns(threads, convolution.chunks() / threads, convolution.units(),
             [&](long begin, long end) { convolution(begin, end); });
}
