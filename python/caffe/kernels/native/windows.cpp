// Steps of inference that go by channel: convolutions of each channel by itself, and pooling. Images
// lie as (N, H, W, C), weights as (kernel_y, kernel_x, C); C is a multiple of 16.

#include "channels.h"
#include "threads.h"

namespace {

constexpr int TOGETHER = 4;  // pixels of a row

struct Largest {  // as in Caffe, NaN does not count
    template <class T>
    static Floats begin(const T* image) {
        return Floats{} + lowest(image);
    }
    static Floats add(Floats best, Floats value) { return value > best ? value : best; }
    static Floats finish(Floats best, float) { return best; }
};

struct Averaged {
    template <class T>
    static Floats begin(const T*) {
        return Floats{};
    }
    static Floats add(Floats sum, Floats value) { return sum + value; }
    static Floats finish(Floats sum, float share) { return sum * share; }
};

// One over how much of a window lies in the padded image.
float share(const Axis& axis, int top) {
    return 1.0f / (std::min(axis.start(top) + axis.kernel, axis.size + axis.pad) - axis.start(top));
}

template <class Way, int PIXELS, class T>
void pixels(const StepOf<T>& s, long row, int x) {
    int y = row % s.y.tops, channels = s.outputs;
    int first_x = s.x.first(x), last_x = s.x.last(x);
    long next = s.x.stride * s.image_pixel, place = s.x.dilation * s.image_pixel;
    long line = s.y.dilation * s.x.size * s.image_pixel;
    long corner = ((row / s.y.tops * s.y.size + s.y.start(y)) * s.x.size + s.x.start(x)) *
                  s.image_pixel;
    T* top = s.top + (row * s.x.tops + x) * s.top_pixel;
    float part = share(s.y, y) * share(s.x, x);
    for (int c = 0; c < channels; c += LANES) {
        Floats sums[PIXELS];
        for (Floats& sum : sums) sum = Way::begin(s.image);
        for (int ky = s.y.first(y); ky < s.y.last(y); ++ky) {
            const T* from = s.image + (corner + ky * line + first_x * place + c);
            for (int kx = first_x; kx < last_x; ++kx, from += place)
                for (int p = 0; p < PIXELS; ++p)
                    sums[p] = Way::add(sums[p], load(from + p * next));
        }
        for (int p = 0; p < PIXELS; ++p)
            store(top + p * s.top_pixel + c, Way::finish(sums[p], part));
    }
}

template <class Way, class T>
void pool(const StepOf<T>& s, int threads) {
    long rows = (long)s.count * s.y.tops;
    threads = threads_for(rows, (long)s.x.tops * s.outputs, threads);
    in_turns(threads, rows * s.x.tops * s.outputs >> 18, rows, [&](long begin, long end) {
        for (long row = begin; row < end; ++row)
            for (int x = 0; x < s.x.tops;) {
                int last = x + TOGETHER - 1;
                bool all = last < s.x.tops && s.x.is_inside(x) && s.x.is_inside(last);
                all ? pixels<Way, TOGETHER>(s, row, x) : pixels<Way, 1>(s, row, x);
                x += all ? TOGETHER : 1;
            }
    });
}

template <class T>
void convolve(const StepOf<T>& s, int threads) {
    long rows = (long)s.count * s.y.tops, width = s.x.tops;
    threads = threads_for(rows, width * s.outputs, threads);
    Channels<T> make(s);
    in_turns(threads, rows * width * s.outputs >> 18, rows, [&](long begin, long end) {
        for (int c = 0; c < s.outputs; c += make.TOGETHER)
            for (long top = begin * width; top < end * width; top += width)
                make(top, width, c, std::min(c + make.TOGETHER, s.outputs),
                     s.top + top * s.top_pixel + c, s.top_pixel, LANES);
    });
}

}  // namespace

#define DEFINE(T, SUFFIX)                                                          \
    extern "C" void convolve_channels##SUFFIX(const StepOf<T>* step, int threads) { \
        convolve(*step, threads);                                                  \
    }                                                                              \
    extern "C" void pool_largest##SUFFIX(const StepOf<T>* step, int threads) {     \
        pool<Largest>(*step, threads);                                             \
    }                                                                              \
    extern "C" void pool_average##SUFFIX(const StepOf<T>* step, int threads) {     \
        pool<Averaged>(*step, threads);                                            \
    }

DEFINE(float, )
DEFINE(bfloat16, _bf16)
