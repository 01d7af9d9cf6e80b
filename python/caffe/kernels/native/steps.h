// A step of inference on images that lie as (N, H, W, C), and what most kernels for fp32 share:
// weights in panels of 32 outputs. The sums of a panel for up to 14 pixels, 28 vectors, stay in
// registers.
#pragma once

#include <algorithm>
#include <cstring>
#include <vector>

#include "vectors.h"

// count / size, rounded up.
constexpr long over(long count, long size) { return (count + size - 1) / size; }

// So many things in parts as equal as can be: part `i` is begin(i) to begin(i + 1) - 1.
struct Parts {
    long each, larger;  // the first `larger` parts have one more

    Parts(long things, long parts) : each(things / parts), larger(things % parts) {}
    long begin(long part) const { return part * each + std::min(part, larger); }
};

struct Axis {
    int size, tops, kernel, stride, pad, dilation;

    int start(int top) const { return top * stride - pad; }
    int reach() const { return (kernel - 1) * dilation + 1; }

    // The places of a top's window that lie in the image: first() to last() - 1.
    int first(int top) const { return std::max(0, (dilation - 1 - start(top)) / dilation); }
    int last(int top) const {
        return std::min(kernel, (size - start(top) + dilation - 1) / dilation);
    }
    // Whether it lies in the image, but for so many places at either end.
    bool is_inside(int top, int few = 0) const {
        return first(top) <= few && last(top) >= kernel - few;
    }
};

template <class T>
struct StepOf {
    const T* image;
    const float *weights, *bias;
    const T* other;  // null, or what is added; may be `top`
    T* top;
    const float *first_weights, *first_bias;  // null, or of a convolution by channel that goes first
    int count, inputs, outputs;
    Axis y, x;
    long image_pixel, top_pixel;  // from one pixel to the next, in values; other's is top's
    bool rectify, rectify_first;
};

typedef StepOf<float> Step;

// Memory of a thread for so many values, whatever they were; Use: what for.
template <class Use>
float* scratch(long count) {
    thread_local std::vector<Floats> values;
    if ((long)values.size() * LANES < count) values.resize(over(count, LANES));
    return (float*)values.data();
}

constexpr int PANEL = 2 * LANES, MOST_PIXELS = 14;

// Where the sums of one panel begin and end, for one pixel after the other.
struct Sums {
    const float *bias, *from;  // what they begin with; null: zero. `from` may be `top`
    float* top;
    int outputs;  // of the panel, that exist
    bool rectify;

    // Those of a panel from pixel `pixel` on.
    static Sums of(const Step& s, long pixel, int panel) {
        long at = pixel * s.top_pixel + panel * PANEL;
        return {s.bias + panel * PANEL, s.other ? s.other + at : nullptr, s.top + at,
                std::min(PANEL, s.outputs - panel * PANEL), s.rectify};
    }

    // If inputs come block by block: lets all but the first go on with what is there.
    void take_block(bool continues, bool is_last) {
        if (continues) {
            bias = nullptr;
            from = top;
        }
        rectify &= is_last;
    }

    // Of COUNT pixels, that lie place(p) behind the first.
    template <int COUNT, class Place>
    void begin(Place place, Floats (*sums)[2]) const {
        Floats low = bias ? load(bias) : Floats{}, high = bias ? load(bias + LANES) : Floats{};
#pragma GCC unroll 14
        for (int p = 0; p < COUNT; ++p) {
            __builtin_prefetch(top + place(p), 1);
            __builtin_prefetch(top + place(p) + LANES, 1);
            sums[p][0] = low;
            sums[p][1] = high;
        }
        if (from)
#pragma GCC unroll 14
            for (int p = 0; p < COUNT; ++p) {
                float some[PANEL];
                const float* values = from + place(p);
                if (outputs < PANEL) values = (const float*)memcpy(some, values, outputs * sizeof(float));
                sums[p][0] += load(values);
                sums[p][1] += load(values + LANES);
            }
    }

    template <int COUNT, class Place>
    void finish(Place place, Floats (*sums)[2]) const {
        if (rectify)
#pragma GCC unroll 14
            for (int p = 0; p < COUNT; ++p)
                for (int half = 0; half < 2; ++half) sums[p][half] = positive(sums[p][half]);
        if (outputs == PANEL)
#pragma GCC unroll 14
            for (int p = 0; p < COUNT; ++p)
                for (int half = 0; half < 2; ++half)
                    store(top + place(p) + half * LANES, sums[p][half]);
        else
#pragma GCC unroll 14
            for (int p = 0; p < COUNT; ++p) {
                float some[PANEL];
                store(some, sums[p][0]);
                store(some + LANES, sums[p][1]);
                memcpy(top + place(p), some, outputs * sizeof(float));
            }
    }
};
