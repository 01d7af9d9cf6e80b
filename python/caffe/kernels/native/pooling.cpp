// Pooling over windows, on images that lie as (N, H, W, C), C a multiple of 16.
//
// A window of max pooling remembers which of its pixels was the largest: y kernel_w + x within the
// window, a byte; -1 where none was larger than the lowest number, as if all are NaN. Backward goes over the pixels and looks at the windows that reach them, so no two
// threads write to one place.

#include <algorithm>
#include <vector>

#include "threads.h"
#include "vectors.h"

namespace {

constexpr int MOST_PLACES = 127;

struct Range {
    int begin, end;
};

struct Axis {
    int size, tops, kernel, stride, pad;

    int start(int top) const { return top * stride - pad; }

    // The pixels of a window that lie in the image.
    Range pixels(int top) const {
        return {std::max(start(top), 0), std::min(start(top) + kernel, size)};
    }

    // The windows that reach a pixel.
    Range windows(int pixel) const {
        int padded = pixel + pad;
        return {padded < kernel ? 0 : (padded - kernel) / stride + 1,
                std::min(padded / stride + 1, tops)};
    }

    // One over how much of a window lies in the padded image.
    float share(int top) const {
        return 1.0f / (std::min(start(top) + kernel, size + pad) - start(top));
    }
};

struct Geometry {
    int count, channels;
    Axis y, x;
};

// A pixel of a window, or a window of a pixel: where its first channel is, which of the window's
// pixels it is about, and the pixel's share in the window's average.
struct Part {
    long at;
    int place;
    float share;
};

// All of them.
class Parts {
public:
    explicit Parts(const Geometry& g) : g_(g) {
        for (int x = 0; x < g.x.size; ++x) columns_.push_back(g.x.windows(x));
        for (int row = 0; row < g.y.tops; ++row) shares_y_.push_back(g.y.share(row));
        for (int column = 0; column < g.x.tops; ++column) shares_x_.push_back(g.x.share(column));
    }

    void of_window(int n, int row, int column) {
        Range ys = g_.y.pixels(row), xs = g_.x.pixels(column);
        count_ = 0;
        for (int y = ys.begin; y < ys.end; ++y)
            for (int x = xs.begin; x < xs.end; ++x)
                add(((long)n * g_.y.size + y) * g_.x.size + x, y, x, row, column);
    }

    void of_pixel(int n, int y, int x) {
        Range rows = g_.y.windows(y), columns = columns_[x];
        count_ = 0;
        for (int row = rows.begin; row < rows.end; ++row)
            for (int column = columns.begin; column < columns.end; ++column)
                add(((long)n * g_.y.tops + row) * g_.x.tops + column, y, x, row, column);
    }

    const Part* begin() const { return parts_; }
    const Part* end() const { return parts_ + count_; }

private:
    void add(long pixel, int y, int x, int row, int column) {
        parts_[count_++] = {pixel * g_.channels,
                            (y - g_.y.start(row)) * g_.x.kernel + (x - g_.x.start(column)),
                            shares_y_[row] * shares_x_[column]};
    }

    const Geometry g_;
    Part parts_[MOST_PLACES];
    int count_ = 0;
    std::vector<Range> columns_;  // the windows of each column of pixels
    std::vector<float> shares_y_, shares_x_;
};

// For each of the (n, row, column) places of images of this size: finds its parts, and calls
// work(parts, where the place is + c, c) for every 16th channel c.
template <class Find, class Work>
void for_places(const Geometry& g, int height, int width, int threads, Find find, Work work) {
    long rows = (long)g.count * height;
    threads = threads_for(rows, (long)width * g.channels, threads);
    in_parallel(threads, rows, [=](int, long begin, long end) {
        Parts parts(g);
        for (long row = begin; row < end; ++row)
            for (int column = 0; column < width; ++column) {
                find(parts, row / height, row % height, column);
                for (int c = 0; c < g.channels; c += LANES)
                    work(parts, (row * width + column) * g.channels + c, c);
            }
    });
}

template <class Work>
void for_windows(const Geometry& g, int threads, Work work) {
    auto find = [](Parts& parts, int n, int row, int column) { parts.of_window(n, row, column); };
    for_places(g, g.y.tops, g.x.tops, threads, find, work);
}

template <class Work>
void for_pixels(const Geometry& g, int threads, Work work) {
    auto find = [](Parts& parts, int n, int y, int x) { parts.of_pixel(n, y, x); };
    for_places(g, g.y.size, g.x.size, threads, find, work);
}

template <class T>
void max_pool(const T* image, T* top, int8_t* places, const Geometry& g, int threads) {
    for_windows(g, threads, [=](const Parts& pixels, long at, int c) {
        Floats best = Floats{} + lowest(image);
        Ints found = Ints{} - 1;
        for (const Part& pixel : pixels) {
            Floats value = load(image + pixel.at + c);
            Ints larger = value > best;  // never true of NaN
            best = larger ? value : best;
            found = larger ? Ints{} + pixel.place : found;
        }
        store(top + at, best);
        store(places + at, found);
    });
}

template <class T>
void max_pool_backward(const T* dy, const int8_t* places, T* dx, const Geometry& g, int threads) {
    for_pixels(g, threads, [=](const Parts& windows, long at, int c) {
        Floats sum{};
        for (const Part& window : windows) {
            Floats diff = load(dy + window.at + c);
            sum += load(places + window.at + c) == window.place ? diff : Floats{};
        }
        store(dx + at, sum);
    });
}

template <class T>
void average_pool(const T* image, T* top, const Geometry& g, int threads) {
    for_windows(g, threads, [=](const Parts& pixels, long at, int c) {
        Floats sum{};
        for (const Part& pixel : pixels) sum += load(image + pixel.at + c);
        store(top + at, sum * pixels.begin()->share);
    });
}

template <class T>
void average_pool_backward(const T* dy, T* dx, const Geometry& g, int threads) {
    for_pixels(g, threads, [=](const Parts& windows, long at, int c) {
        Floats sum{};
        for (const Part& window : windows) sum += load(dy + window.at + c) * window.share;
        store(dx + at, sum);
    });
}

}  // namespace

#define FOR_TYPE(type, suffix)                                                                    \
    extern "C" void max_pool_##suffix(const type* image, type* top, int8_t* places,               \
                                      const Geometry* g, int threads) {                           \
        max_pool(image, top, places, *g, threads);                                                \
    }                                                                                             \
    extern "C" void max_pool_backward_##suffix(const type* dy, const int8_t* places, type* dx,    \
                                               const Geometry* g, int threads) {                  \
        max_pool_backward(dy, places, dx, *g, threads);                                           \
    }                                                                                             \
    extern "C" void average_pool_##suffix(const type* image, type* top, const Geometry* g,        \
                                          int threads) {                                          \
        average_pool(image, top, *g, threads);                                                    \
    }                                                                                             \
    extern "C" void average_pool_backward_##suffix(const type* dy, type* dx, const Geometry* g,   \
                                                   int threads) {                                 \
        average_pool_backward(dy, dx, *g, threads);                                               \
    }

FOR_TYPE(float, float32)
FOR_TYPE(bfloat16, bfloat16)
