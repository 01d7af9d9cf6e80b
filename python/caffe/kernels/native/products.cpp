// Convolutions of 1 x 1 and inner products with packed weights, for passes that no backward
// follows: tops = rows times weights. Images lie as (N, H, W, C).
//
// Weights are packed as (panels, C, 32); see steps.h. A chunk is up to some hundred rows. It is
// copied, a block of channels after the other, as (tiles, channels / 16, 14 rows, 16), so that a
// tile is read in one go while a panel's part of the weights stays in a near cache. Or the rows are
// tops of a convolution by channel, and made where they would be copied to. Threads share rows if
// there are enough, so that each finds in its cache what it made before, and otherwise panels.

#include "products.h"

#include "channels.h"
#include "threads.h"

namespace {

constexpr int BLOCK = 1024;                        // channels
constexpr int LEAST_TILES = 6, MOST_TILES = 18;    // of a chunk: they share what is read of weights
constexpr long MOST_VALUES = 1 << 17;              // of a chunk's copy, which stays in a cache
constexpr int AHEAD = 12 * PANEL;                  // values of the weights, fetched meanwhile

template <int ROWS>
void multiply(const float* x, const float* w, int channels, const Sums& tops, long top_row,
              Next next) {
    Floats sums[ROWS][2];
    auto place = [=](int row) { return row * top_row; };
    tops.begin<ROWS>(place, sums);
    for (int from = 0; from < channels; from += LANES, x += STEP) {
        int some = std::min(channels - from, LANES);
        for (int line = 0; line < next.lines; ++line, next.from += LANES)
            __builtin_prefetch(next.from, 0, 2);
        for (int k = 0; k < some; ++k, w += PANEL) {
            Floats low = load(w), high = load(w + LANES);
            __builtin_prefetch(w + AHEAD);
            __builtin_prefetch(w + AHEAD + LANES);
#pragma GCC unroll 14
            for (int row = 0; row < ROWS; ++row) {
                Floats value = x[row * LANES + k] - Floats{};
                sums[row][0] += value * low;
                sums[row][1] += value * high;
            }
        }
    }
    tops.finish<ROWS>(place, sums);
}

}  // namespace

const Multiply MULTIPLY[] = {
    multiply<1>, multiply<2>, multiply<3>,  multiply<4>,  multiply<5>,  multiply<6>,  multiply<7>,
    multiply<8>, multiply<9>, multiply<10>, multiply<11>, multiply<12>, multiply<13>, multiply<14>};

namespace {

class Product {
public:
    Product(const Step& step, int threads)
        : s_(step), first_(first_of(step)), panels_(over(step.outputs, PANEL)),
          tile_(over(std::min(BLOCK, step.inputs), LANES) * STEP),
          tiles_(over(pixels(), MOST_PIXELS)), chunks_(best_chunks(threads)),
          row_(pixels(), tiles_), first_tile_(tiles_, chunks_) {}

    long chunks() const { return chunks_; }
    long units() const { return chunks_ * panels_; }
    // Units that one thread is to do: where there are enough chunks, a chunk.
    long together(int threads) const { return chunks_ < threads ? 1 : panels_; }

    void operator()(long begin, long end) const {
        float* copy = scratch<Product>(over(tiles_, chunks_) * tile_);
        while (begin < end) {
            long chunk = begin / panels_, last = std::min(end, (chunk + 1) * panels_);
            long first_tile = first_tile_.begin(chunk), last_tile = first_tile_.begin(chunk + 1);
            int panel = begin % panels_, last_panel = panel + last - begin;
            for (int channel = 0; channel < s_.inputs; channel += BLOCK) {
                fill(first_tile, last_tile, channel, copy);
                for (int next = panel; next < last_panel;) {
                    int here = next++;
                    Next fetch = next < last_panel
                                     ? following(next, channel, last_tile - first_tile)
                                     : following(panel, channel + BLOCK, last_tile - first_tile);
                    for (long tile = first_tile; tile < last_tile; ++tile)
                        run(copy + (tile - first_tile) * tile_, tile, here, channel,
                            fetch.part(tile - first_tile, channels(channel)));
                }
            }
            begin = last;
        }
    }

private:
    long pixels() const { return (long)s_.count * s_.y.tops * s_.x.tops; }
    int channels(int channel) const { return std::min(BLOCK, s_.inputs - channel); }

    long best_chunks(int threads) const {
        long most = std::clamp<long>(MOST_VALUES / tile_, LEAST_TILES, MOST_TILES);
        long chunks = std::max({std::min<long>(threads, tiles_ / LEAST_TILES), over(tiles_, most), 1L});
        return chunks < threads ? chunks : std::min(over(chunks, threads) * threads, tiles_);
    }

    // Of the image, that a row of the product is.
    long pixel(long row) const {
        if (s_.y.stride * s_.x.stride == 1) return row;
        int above = row / s_.x.tops, image = above / s_.y.tops;
        int y = above % s_.y.tops * s_.y.stride, x = row % s_.x.tops * s_.x.stride;
        return ((long)image * s_.y.size + y) * s_.x.size + x;
    }

    void fill(long first, long last, int channel, float* to) const {
        if (s_.first_weights) return convolve(first, last, channel, to);
        for (long tile = first; tile < last; ++tile, to += tile_) {
            long begin = row_.begin(tile), end = row_.begin(tile + 1);
            for (long row = begin; row < end; ++row) {
                const float* from = s_.image + pixel(row) * s_.image_pixel + channel;
                float* place = to + (row - begin) * LANES;
                int c = 0, all = channels(channel);
                for (; c + LANES <= all; c += LANES, place += STEP) store(place, load(from + c));
                for (; c < all; ++c) place[c % LANES] = from[c];
            }
        }
    }

    void convolve(long first, long last, int channel, float* to) const {
        Channels<float> make(first_);
        int end = channel + channels(channel);
        for (long tile = first; tile < last; ++tile, to += tile_) {
            float* at = to;
            for (long row = row_.begin(tile), last_row = row_.begin(tile + 1); row < last_row;) {
                int some = std::min(last_row - row, s_.x.tops - row % s_.x.tops);
                make(row, some, channel, end, at, LANES, STEP);
                row += some;
                at += some * LANES;
            }
        }
    }

    // A panel's weights for the block of channels that begins with `channel`.
    const float* weights(int panel, int channel) const {
        return s_.weights + ((long)panel * s_.inputs + channel) * PANEL;
    }
    // The same, if there are some, to be fetched in the course of a panel's products.
    Next following(int panel, int channel, long products) const {
        long values = std::max(channels(channel), 0) * (long)PANEL;
        return Next::of(weights(panel, channel), values, products, channels(0));
    }

    void run(const float* x, long tile, int panel, int channel, Next next) const {
        int count = channels(channel);
        long begin = row_.begin(tile);
        Sums tops = Sums::of(s_, begin, panel);
        tops.take_block(channel > 0, channel + count == s_.inputs);
        MULTIPLY[row_.begin(tile + 1) - begin - 1](x, weights(panel, channel), count, tops,
                                                   s_.top_pixel, next);
    }

    const Step& s_;
    const Step first_;
    const long panels_, tile_, tiles_, chunks_;
    const Parts row_, first_tile_;
};

}  // namespace

extern "C" void multiply_packed(const Step* step, int threads) {
    Product product(*step, threads);
    long some = product.together(threads);
    in_turns(threads, product.chunks() / threads, product.units() / some,
             [&](long begin, long end) { product(begin * some, end * some); });
}

// Several steps, one after the other.
extern "C" void run_steps(void (*const* kernels)(const Step*, int), const Step* steps, int count,
                          int threads) {
    for (int i = 0; i < count; ++i) kernels[i](steps + i, threads);
}
