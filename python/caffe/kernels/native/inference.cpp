// Convolutions with packed weights, for passes that no backward follows. Images lie as (N, H, W, C).
//
// Weights are packed as (panels, kernel_y, kernel_x, C, 32): a panel has 32 outputs. A tile is up to
// 14 pixels of a panel: its 28 vectors of sums stay in registers. What a pixel sees of a row of the
// image lies together and is one run over weights that lie together, too. A chunk is as many tiles
// as leave its part of the image in the cache while one panel after the other goes over it.

#include <algorithm>
#include <cstring>
#include <vector>

#include "threads.h"
#include "vectors.h"

namespace {

constexpr int PANEL = 2 * LANES, MOST_PIXELS = 14;
constexpr int AHEAD_X = 32, AHEAD_W = 12 * PANEL;   // what is fetched meanwhile, in values
constexpr long MANY_WEIGHTS = 1 << 17;              // they pass the cache by, so images stay in it
constexpr long LARGE_CHUNK = 1 << 17, SMALL_CHUNK = 1 << 13;  // values of the image
constexpr int PADDED_ROWS = 4;                      // of a chunk at least, where rows are copied

struct Axis {
    int size, tops, kernel, stride, pad, dilation;

    int start(int top) const { return top * stride - pad; }
    int reach() const { return (kernel - 1) * dilation + 1; }
};

struct Geometry {
    int count, inputs, outputs;
    Axis y, x;
};

struct Run {  // over `length` values of the image, from these places on
    long image, weights;
    int length;
};

// `first` pixels of one row, and the `second` ones of the row below it.
struct Tile {
    const float *image, *weights, *bias, *other;
    float* top;
    long pixel, row;          // from one to the next in the image, in values
    long top_pixel, top_row;  // and in top and other
    int outputs;
    bool rectify;
};

template <int FIRST, int SECOND>
void compute(const Tile& t, const std::vector<Run>& runs) {
    constexpr int ALL = FIRST + SECOND;
    auto at = [](int p, long pixel, long row) {
        return p < FIRST ? p * pixel : row + (p - FIRST) * pixel;
    };
    Floats sums[ALL][2];
#pragma GCC unroll 14
    for (int p = 0; p < ALL; ++p) sums[p][0] = sums[p][1] = Floats{};
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
#pragma GCC unroll 14
    for (int p = 0; p < ALL; ++p) {
        long place = at(p, t.top_pixel, t.top_row);
        float some[PANEL], *to = t.top + place;
        const float* other = t.other ? t.other + place : nullptr;
        if (t.outputs < PANEL) {
            to = some;
            if (other) other = (const float*)memcpy(some, other, t.outputs * sizeof(float));
        }
        for (int half = 0; half < 2; ++half) {
            Floats value = sums[p][half] + load(t.bias + half * LANES);
            if (other) value += load(other + half * LANES);
            store(to + half * LANES, t.rectify ? positive(value) : value);
        }
        if (to == some) memcpy(t.top + place, some, t.outputs * sizeof(float));
    }
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
    Convolution(Geometry g, Tile like, long image_pixel, long top_pixel)
        : g_(g), like_(like), pixel_(image_pixel) {
        bool is_pointwise = g.y.kernel * g.x.kernel == 1 && g.y.stride * g.x.stride == 1 &&
                            g.y.pad + g.x.pad == 0;
        if (is_pointwise) {  // one long row
            g_.x.size = g_.x.tops = g.count * g.y.size * g.x.size;
            g_.count = g_.y.size = g_.y.tops = 1;
        }
        pads_ = g_.y.pad + g_.x.pad > 0;
        width_ = g_.x.size + 2 * g_.x.pad;
        if (pads_) pixel_ = g_.inputs;  // of the copy
        like_.pixel = g_.x.stride * pixel_;
        like_.row = g_.y.stride * width_ * pixel_;
        like_.top_pixel = top_pixel;
        like_.top_row = g_.x.tops * top_pixel;
        image_pixel_ = image_pixel;
        panels_ = (g_.outputs + PANEL - 1) / PANEL;
        panel_size_ = (long)g_.y.kernel * g_.x.kernel * g_.inputs * PANEL;
        find_runs();
        rows_ = 2 * g_.x.tops <= MOST_PIXELS && g_.y.tops > 1 ? 2 : 1;
        across_ = (g_.x.tops + MOST_PIXELS - 1) / MOST_PIXELS;
        tiles_ = (long)(g_.y.tops + rows_ - 1) / rows_ * across_;
        long chunk = panel_size_ * panels_ > MANY_WEIGHTS ? LARGE_CHUNK : SMALL_CHUNK;
        long seen = (long)rows_ * g_.x.tops / across_ * g_.y.stride * g_.x.stride * g_.inputs;
        chunk_ = std::max(chunk / std::max(seen, 1L), 1L);
        if (pads_) chunk_ = std::max(chunk_, (long)PADDED_ROWS * across_);
        chunk_ = std::min(chunk_, tiles_);
        chunks_ = (tiles_ + chunk_ - 1) / chunk_;
    }

    long units() const { return g_.count * chunks_ * panels_; }

    void operator()(long begin, long end) const {
        std::vector<float> copy;
        for (long unit = begin; unit < end; ++unit) {
            long chunk = unit / panels_, image = chunk / chunks_;
            long from = chunk % chunks_ * chunk_, to = std::min(from + chunk_, tiles_);
            int first_row = g_.y.start(from / across_ * rows_);
            const float* x =
                like_.image + (image * g_.y.size + first_row) * g_.x.size * image_pixel_;
            if (pads_) {
                if (unit == begin || unit % panels_ == 0)
                    pad(x, first_row, (to - 1) / across_ * rows_ + rows_ - 1, copy);
                x = copy.data();
            }
            for (long tile = from; tile < to; ++tile)
                run(x, first_row, image, tile, unit % panels_);
        }
    }

private:
    void find_runs() {
        bool joins = g_.x.dilation == 1 && pixel_ == g_.inputs;
        int across = joins ? 1 : g_.x.kernel, length = joins ? g_.x.kernel * g_.inputs : g_.inputs;
        for (int y = 0; y < g_.y.kernel; ++y)
            for (int x = 0; x < across; ++x)
                runs_.push_back({(y * g_.y.dilation * width_ + x * g_.x.dilation) * pixel_,
                                 ((long)y * g_.x.kernel + x) * g_.inputs * PANEL, length});
    }

    // Copies the rows that the tops up to row `last` see, with zeros around the image.
    void pad(const float* from, int first, int last, std::vector<float>& copy) const {
        int rows = g_.y.start(std::min(last, g_.y.tops - 1)) + g_.y.reach() - first;
        long row_size = width_ * g_.inputs, margin = (long)g_.x.pad * g_.inputs;
        copy.assign(rows * row_size, 0.0f);
        for (int row = 0; row < rows; ++row, from += g_.x.size * image_pixel_) {
            if (first + row < 0 || first + row >= g_.y.size) continue;
            float* to = copy.data() + row * row_size + margin;
            for (int x = 0; x < g_.x.size; ++x, to += g_.inputs)
                memcpy(to, from + x * image_pixel_, g_.inputs * sizeof(float));
        }
    }

    void run(const float* x, int first_row, long image, long tile, int panel) const {
        int row = tile / across_ * rows_, part = tile % across_;
        int column = (long)g_.x.tops * part / across_;
        int pixels = (long)g_.x.tops * (part + 1) / across_ - column;
        Tile t = like_;
        t.image = x + (g_.y.start(row) - first_row) * width_ * pixel_ +
                  (long)column * g_.x.stride * pixel_;
        long at = ((image * g_.y.tops + row) * g_.x.tops + column) * t.top_pixel + panel * PANEL;
        t.top += at;
        if (t.other) t.other += at;
        t.weights += panel * panel_size_;
        t.bias += panel * PANEL;
        t.outputs = std::min(PANEL, g_.outputs - panel * PANEL);
        bool two = rows_ == 2 && row + 1 < g_.y.tops;
        (two ? TWO_ROWS : ONE_ROW)[pixels - 1](t, runs_);
    }

    Geometry g_;
    Tile like_;
    std::vector<Run> runs_;
    bool pads_;
    int panels_, rows_;
    long pixel_, image_pixel_, width_, panel_size_, across_, tiles_, chunk_, chunks_;
};

}  // namespace

// other: null, or what is added; image_pixel, top_pixel: from one pixel to the next, in values.
extern "C" void convolve_packed(const float* image, const float* weights, const float* bias,
                                const float* other, float* top, const Geometry* g,
                                long image_pixel, long top_pixel, bool rectify, int threads) {
    Tile like{image, weights, bias, other, top, 0, 0, 0, 0, 0, rectify};
    Convolution convolution(*g, like, image_pixel, top_pixel);
    in_parallel(threads, convolution.units(),
                [&](int, long begin, long end) { convolution(begin, end); });
}
