// A step of inference on images that lie as (N, H, W, C), and what most kernels for fp32 share:
// weights in panels of 32 outputs. The sums of a panel for up to 14 pixels, 28 vectors, stay in
// registers.
#pragma once

#include <algorithm>
#include <cstring>
#include <vector>

#include "vectors.h"

struct Axis {
    int size, tops, kernel, stride, pad, dilation;

    int start(int top) const { return top * stride - pad; }
    int reach() const { return (kernel - 1) * dilation + 1; }

    // The places of a top's window that lie in the image: first() to last() - 1.
    int first(int top) const { return std::max(0, (dilation - 1 - start(top)) / dilation); }
    int last(int top) const {
        return std::min(kernel, (size - start(top) + dilation - 1) / dilation);
    }
    bool is_inside(int top) const { return first(top) == 0 && last(top) == kernel; }
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
    if ((long)values.size() * LANES < count) values.resize((count + LANES - 1) / LANES);
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

    void begin(long place, Floats* sums) const {
        float some[PANEL];
        const float* values = from ? from + place : nullptr;
        if (values && outputs < PANEL)
            values = (const float*)memcpy(some, values, outputs * sizeof(float));
        for (int half = 0; half < 2; ++half) {
            __builtin_prefetch(top + place + half * LANES, 1);
            sums[half] = bias ? load(bias + half * LANES) : Floats{};
            if (values) sums[half] += load(values + half * LANES);
        }
    }

    void finish(long place, const Floats* sums) const {
        float some[PANEL], *to = outputs < PANEL ? some : top + place;
        for (int half = 0; half < 2; ++half)
            store(to + half * LANES, rectify ? positive(sums[half]) : sums[half]);
        if (to == some) memcpy(top + place, some, outputs * sizeof(float));
    }
};
