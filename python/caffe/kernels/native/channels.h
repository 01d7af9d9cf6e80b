// Convolutions of each channel by itself. Images lie as (N, H, W, C), weights as (kernel_y, kernel_x,
// C); C is a multiple of 16.
#pragma once

#include "steps.h"

// The convolution by channel that goes first in a step, if there is one.
template <class T>
StepOf<T> first_of(StepOf<T> step) {
    step.weights = step.first_weights;
    step.bias = step.first_bias;
    step.rectify = step.rectify_first;
    step.outputs = step.inputs;
    return step;
}

template <class T>
class Channels {
public:
    static constexpr int TOGETHER = 16 * LANES;  // channels for which rows stay in a near cache

    explicit Channels(const StepOf<T>& step) : s_(step), from_(0), to_(s_.x.tops) {
        bool is_3x3 = s_.y.kernel == 3 && s_.x.kernel == 3 && s_.x.dilation == 1;
        runs_ = is_3x3 && s_.x.stride == 1 ? RUNS<1> : is_3x3 && s_.x.stride == 2 ? RUNS<2> : RUNS<0>;
        int few = runs_ == RUNS<0> ? 0 : 1;
        while (from_ < to_ && !s_.x.is_inside(from_, few)) ++from_;
        while (to_ > from_ && !s_.x.is_inside(to_ - 1, few)) --to_;
    }

    // Makes `tops` tops of one row from `top` on, counted through all images, of channels `channel` to
    // `end` - 1: from `to` on, one every `pixel` values, of each 16 channels every `lanes` values.
    void operator()(long top, int tops, int channel, int end, T* to, long pixel,
                    long lanes) const {
        long row = top / s_.x.tops;
        int y = row % s_.y.tops, x = top % s_.x.tops, last = x + tops, first_y = s_.y.first(y);
        Run run{s_.image + (row / s_.y.tops * s_.y.size + s_.y.start(y)) * line(), s_.weights,
                first_y, s_.y.last(y), 0, 0};
        for (int some; x < last; x += some, to += some * pixel) {
            Run here = run;
            here.image += (long)s_.x.start(x) * s_.image_pixel;
            bool is_inside = x >= from_ && x < to_;
            int all = is_inside ? std::min(last, to_) - x : 1;
            some = all / over(all, MOST);
            here.first_x = s_.x.first(x);
            here.last_x = s_.x.last(x + some - 1);
            auto make = is_inside ? runs_[some - 1] : RUNS<0>[0];
            make(s_, here, channel, end, to, pixel, lanes);
        }
    }

private:
    static constexpr int MOST = 7;  // tops for which weights are loaded once

    struct Run {
        const T* image;        // of the first top's window
        const float* weights;
        int first_y, last_y, first_x, last_x;  // places of the first and to those of the last window
    };

    long line() const { return s_.x.size * s_.image_pixel; }

    // Windows of 3 x 3 that lie this far apart, or any if STRIDE is 0. Of 3 x 3, the first may lack its
    // first column and the last its last.
    template <int TOPS, int STRIDE>
    static void make(const StepOf<T>& s, const Run& run, int channel, int end, T* to, long pixel,
                     long lanes) {
        constexpr int COLUMNS = (TOPS - 1) * STRIDE + 3;
        long line = s.y.dilation * s.x.size * s.image_pixel, place = s.x.dilation * s.image_pixel;
        long next = s.x.stride * s.image_pixel, inputs = s.inputs;
        bool rectify = s.rectify, begins = run.first_x == 0, ends = run.last_x == s.x.kernel;
        const float* bias = s.bias;
        for (; channel < end; channel += LANES, to += lanes) {
            Floats sums[TOPS];
#pragma GCC unroll 7
            for (int p = 0; p < TOPS; ++p) sums[p] = load(bias + channel);
            const T* image = run.image + run.first_y * line + channel;
            const float* w = run.weights + (long)run.first_y * s.x.kernel * inputs + channel;
            for (int y = run.first_y; y < run.last_y; ++y, image += line, w += s.x.kernel * inputs) {
                const T* x = image;
                if (STRIDE) {
                    Floats weights[] = {load(w), load(w + inputs), load(w + 2 * inputs)};
#pragma GCC unroll 15
                    for (int i = 0; i < COLUMNS; ++i, x += place) {
                        if ((i == 0 && !begins) || (i == COLUMNS - 1 && !ends)) continue;
                        Floats value = load(x);
#pragma GCC unroll 7
                        for (int p = 0; p < TOPS; ++p) {
                            int kx = i - p * STRIDE;
                            if (kx >= 0 && kx < 3) sums[p] += value * weights[kx];
                        }
                    }
                } else {
                    for (int kx = run.first_x; kx < run.last_x; ++kx) {
                        Floats weight = load(w + kx * inputs);
#pragma GCC unroll 7
                        for (int p = 0; p < TOPS; ++p)
                            sums[p] += load(x + kx * place + p * next) * weight;
                    }
                }
            }
            if (rectify)
#pragma GCC unroll 7
                for (int p = 0; p < TOPS; ++p) sums[p] = positive(sums[p]);
#pragma GCC unroll 7
            for (int p = 0; p < TOPS; ++p) store(to + p * pixel, sums[p]);
        }
    }

    typedef decltype(&make<1, 0>) Make;
    template <int STRIDE>
    static constexpr Make RUNS[MOST] = {make<1, STRIDE>, make<2, STRIDE>, make<3, STRIDE>,
                                        make<4, STRIDE>, make<5, STRIDE>, make<6, STRIDE>,
                                        make<7, STRIDE>};

    const StepOf<T>& s_;
    int from_, to_;  // the tops of a row whose windows lie inside the image, or nearly
    const Make* runs_;
};
