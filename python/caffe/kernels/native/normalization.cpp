// BatchNorm, Scale, the sum with another blob and ReLU in as few passes over memory as there can
// be: one for the statistics and one for the values, forward and backward.
//
// All images are (rows, channels): channels last, rows = N * H * W, channels a multiple of 16.
// Statistics and parameters are float, whatever the images are.

#include <algorithm>
#include <array>
#include <cmath>
#include <utility>
#include <vector>

#include "threads.h"
#include "vectors.h"

namespace {

// Rows that are added up before the sums in memory are touched. Rows of 1024 channels lie a whole
// page apart, so they share a few places of the nearest cache: from several images, fewer rows fit.
constexpr long OF_ONE_IMAGE = 16, OF_SEVERAL_IMAGES = 4;
constexpr int WAYS = 4;      // sums side by side in a group: an addition need not wait for the last
constexpr long BLOCK = 128;  // rows whose sums are kept in single precision

// COUNT sums over rows for each channel: those of a block in single precision, all in double.
template <int COUNT>
struct Sums {
    explicit Sums(int channels) {
        for (auto& sum : all) sum.resize(channels);
        for (auto& sum : block) sum.resize(channels);
    }

    void end_block() {
        for (int i = 0; i < COUNT; ++i) {
            for (size_t c = 0; c < all[i].size(); ++c) all[i][c] += block[i][c];
            std::fill(block[i].begin(), block[i].end(), 0.0f);
        }
    }

    std::vector<double> all[COUNT];
    std::vector<float> block[COUNT];
};

Floats total(const Floats* ways) { return (ways[0] + ways[1]) + (ways[2] + ways[3]); }

// Adds to `sums` for all rows and channels what term(row, c, terms) writes to terms[COUNT].
template <long GROUP, int COUNT, class Term>
void add_rows(Sums<COUNT>& sums, long begin, long end, int channels, Term term) {
    for (long block = begin; block < end; block += BLOCK) {
        long stop = std::min(block + BLOCK, end);
        for (long row = block; row < stop; row += GROUP) {
            long rows = std::min(GROUP, stop - row);
            for (int c = 0; c < channels; c += LANES) {
                Floats ways[COUNT][WAYS] = {};
                auto add = [&](long r, int way) {
                    Floats terms[COUNT];
                    term(row + r, c, terms);
                    for (int i = 0; i < COUNT; ++i) ways[i][way] += terms[i];
                };
                long r = 0;
                for (; r + WAYS <= rows; r += WAYS)
                    for (int way = 0; way < WAYS; ++way) add(r + way, way);
                for (; r < rows; ++r) add(r, 0);
                for (int i = 0; i < COUNT; ++i)
                    store(&sums.block[i][c], load(&sums.block[i][c]) + total(ways[i]));
            }
        }
        sums.end_block();
    }
}

// The mean of some rows: what the values are measured from, so that squares do not cancel. 0 where
// it is not finite: a value less infinity would be NaN, and the mean is infinite.
template <class T>
std::vector<float> mean_of_rows(const T* x, long rows, int channels) {
    Sums<1> sums(channels);
    add_rows<OF_ONE_IMAGE>(sums, 0, rows, channels, [=](long row, int c, Floats* terms) {
        terms[0] = load(x + row * channels + c);
    });
    std::vector<float> mean(channels);
    for (int c = 0; c < channels; ++c) {
        float value = sums.all[0][c] / rows;
        mean[c] = std::isfinite(value) ? value : 0;
    }
    return mean;
}

// The sums over all rows. Each thread adds up in memory of its own: two that write to one cache line
// would wait for each other.
template <long GROUP, int COUNT, class Term>
Sums<COUNT> add_in_parallel(long rows, int channels, int threads, Term term) {
    std::vector<Sums<COUNT>> parts(threads, Sums<COUNT>(0));
    in_parallel(threads, rows, [&](int part, long begin, long end) {
        Sums<COUNT> sums(channels);
        add_rows<GROUP>(sums, begin, end, channels, term);
        parts[part] = std::move(sums);
    });
    for (int part = 1; part < threads; ++part)
        for (int i = 0; i < COUNT; ++i)
            for (int c = 0; c < channels; ++c) parts[0].all[i][c] += parts[part].all[i][c];
    return std::move(parts[0]);
}

// Mean and biased variance of the rows.
template <class T>
void measure(const T* x, long rows, int channels, float* mean, float* variance, int threads) {
    threads = threads_for(rows, channels, threads);
    std::vector<float> origin = mean_of_rows(x, std::min(rows, BLOCK), channels);
    const float* from = origin.data();
    auto moments = [=](long row, int c, Floats* terms) {
        terms[0] = load(x + row * channels + c) - load(from + c);
        terms[1] = terms[0] * terms[0];
    };
    Sums<2> sums = add_in_parallel<OF_ONE_IMAGE, 2>(rows, channels, threads, moments);
    for (int c = 0; c < channels; ++c) {
        double shifted = sums.all[0][c] / rows;
        mean[c] = origin[c] + shifted;
        variance[c] = std::max(sums.all[1][c] / rows - shifted * shifted, 0.0);
    }
}

// Caffe's running sums: of means, of unbiased variances, and their weight.
void remember(long rows, int channels, const float* mean, const float* variance, float fraction,
              float* means, float* variances, float* weight) {
    float unbiased = rows > 1 ? float(rows) / (rows - 1) : 0;
    for (int c = 0; c < channels; ++c) {
        means[c] = fraction * means[c] + mean[c];
        variances[c] = fraction * variances[c] + unbiased * variance[c];
    }
    *weight = fraction * *weight + 1;
}

// Calls work(place, c) for every 16th channel c of all rows.
template <class Work>
void for_values(long rows, int channels, int threads, Work work) {
    in_parallel(threads, rows, [=](int, long begin, long end) {
        for (long row = begin; row < end; ++row)
            for (int c = 0; c < channels; c += LANES) work(row * channels + c, c);
    });
}

// y = x factor + shift (+ other), rectified or not.
template <class T>
void apply(const T* x, const T* other, T* y, long rows, int channels, const float* factor,
           const float* shift, bool rectify, int threads) {
    auto affine = [=](long at, int c) { return load(x + at) * load(factor + c) + load(shift + c); };
    auto write = [=](auto value) {
        for_values(rows, channels, threads, [=](long at, int c) { store(y + at, value(at, c)); });
    };
    if (other && rectify)
        write([=](long at, int c) { return positive(affine(at, c) + load(other + at)); });
    else if (other)
        write([=](long at, int c) { return affine(at, c) + load(other + at); });
    else if (rectify)
        write([=](long at, int c) { return positive(affine(at, c)); });
    else
        write(affine);
}

// A diff that comes to the layer, dy or dy + second, and what is made of it. `below` keeps what is
// left of it below the ReLU for the second pass. Null where there is or shall be none: second,
// below, dx.
template <class T>
struct Flow {
    const T *dy, *second;
    T *below, *dx;
    float *dscale, *dbias;
};

// What of a row's diff goes into dx: slope diff, and with own statistics tilt (x - mean) + level.
struct Line {
    std::vector<float> slope, tilt, level;
};

// sum, sum_centred: of the diff, and of it times (x - mean), over the rows.
Line line_of(const std::vector<double>& sum, const std::vector<double>& sum_centred, long rows,
             const float* scale, const float* inverse_std, bool own_statistics) {
    size_t channels = sum.size();
    Line line{std::vector<float>(channels), std::vector<float>(channels),
              std::vector<float>(channels)};
    for (size_t c = 0; c < channels; ++c) {
        double deviation = inverse_std[c], slope = (scale ? scale[c] : 1.0f) * deviation;
        line.slope[c] = slope;
        if (!own_statistics) continue;
        line.tilt[c] = -slope * deviation * deviation * sum_centred[c] / rows;
        line.level[c] = -slope * sum[c] / rows;
    }
    return line;
}

template <class T>
void forward(const T* x, const T* other, T* y, long rows, int channels, const float* scale,
             const float* bias, float eps, const float* mean, const float* variance,
             float* inverse_std, float* factor, float* shift, bool rectify, int threads) {
    threads = threads_for(rows, channels, threads);
    for (int c = 0; c < channels; ++c) {
        inverse_std[c] = 1 / std::sqrt(variance[c] + eps);
        factor[c] = inverse_std[c] * (scale ? scale[c] : 1);
        shift[c] = (bias ? bias[c] : 0) - mean[c] * factor[c];
    }
    apply(x, other, y, rows, channels, factor, shift, rectify, threads);
}

// is_open(place, c, x): where the ReLU passed. One pass over x for all flows, twice.
template <int FLOWS, class T, class Gate>
void backward_through(const Flow<T>* given, const T* x, long rows, int channels,
                      const float* scale, const float* mean, const float* inverse_std,
                      bool own_statistics, int threads, Gate is_open) {
    threads = threads_for(rows, channels, threads);
    std::array<Flow<T>, FLOWS> flows;
    std::copy_n(given, FLOWS, flows.begin());
    auto below = [=](const Flow<T>& flow, long at, Ints open) {
        Floats diff = load(flow.dy + at);
        if (flow.second) diff += load(flow.second + at);
        return open ? diff : Floats{};
    };
    auto terms_of = [=](long row, int c, Floats* terms) {
        long at = row * channels + c;
        Floats value = load(x + at), centred = value - load(mean + c);
        Ints open = is_open(at, c, value);
        for (int i = 0; i < FLOWS; ++i) {
            Floats diff = below(flows[i], at, open);
            if (flows[i].below) {  // the sums must be of what the second pass reads
                store(flows[i].below + at, diff);
                diff = load(flows[i].below + at);
            }
            terms[2 * i] = diff;
            terms[2 * i + 1] = diff * centred;
        }
    };
    Sums<2 * FLOWS> sums =
        add_in_parallel<OF_SEVERAL_IMAGES, 2 * FLOWS>(rows, channels, threads, terms_of);
    std::array<Line, FLOWS> lines;
    bool any_data = false;
    for (int i = 0; i < FLOWS; ++i) {
        const std::vector<double> &sum = sums.all[2 * i], &centred = sums.all[2 * i + 1];
        for (int c = 0; c < channels; ++c) {
            flows[i].dscale[c] = centred[c] * inverse_std[c];
            flows[i].dbias[c] = sum[c];
        }
        lines[i] = line_of(sum, centred, rows, scale, inverse_std, own_statistics);
        any_data |= flows[i].dx != nullptr;
    }
    if (!any_data) return;
    for_values(rows, channels, threads, [&, flows](long at, int c) {
        Floats value = load(x + at), centred = value - load(mean + c);
        for (int i = 0; i < FLOWS; ++i) {
            if (!flows[i].dx) continue;
            Floats diff = flows[i].below ? load(flows[i].below + at)
                                         : below(flows[i], at, is_open(at, c, value));
            Floats dx = diff * load(&lines[i].slope[c]);
            if (own_statistics)
                dx += centred * load(&lines[i].tilt[c]) + load(&lines[i].level[c]);
            store(flows[i].dx + at, dx);
        }
    });
}

// y: tells where the ReLU passed; else factor and shift do, what x was given; else all passed.
template <int FLOWS, class T>
void backward(const Flow<T>* flows, const T* x, const T* y, long rows, int channels,
              const float* scale, const float* mean, const float* inverse_std,
              const float* factor, const float* shift, bool own_statistics, int threads) {
    auto through = [=](auto is_open) {
        backward_through<FLOWS>(flows, x, rows, channels, scale, mean, inverse_std,
                                own_statistics, threads, is_open);
    };
    if (y)
        through([=](long at, int, Floats) { return passes(load(y + at)); });
    else if (factor)  // as in forward: the same sum, the same sign
        through([=](long, int c, Floats x) { return passes(x * load(factor + c) + load(shift + c)); });
    else
        through([](long, int, Floats) { return Ints{} - 1; });
}

}  // namespace

#define FOR_TYPE(type, suffix)                                                                   \
    extern "C" void measure_##suffix(const type* x, long rows, int channels, float* mean,        \
                                     float* variance, float fraction, float* means,              \
                                     float* variances, float* weight, int threads) {             \
        measure(x, rows, channels, mean, variance, threads);                                     \
        remember(rows, channels, mean, variance, fraction, means, variances, weight);            \
    }                                                                                            \
    extern "C" void normalize_##suffix(                                                          \
        const type* x, const type* other, type* y, long rows, int channels, const float* scale,  \
        const float* bias, float eps, const float* mean, const float* variance,                  \
        float* inverse_std, float* factor, float* shift, bool rectify, int threads) {            \
        forward(x, other, y, rows, channels, scale, bias, eps, mean, variance, inverse_std,      \
                factor, shift, rectify, threads);                                                \
    }                                                                                            \
    extern "C" void normalize_backward_##suffix(                                                 \
        const Flow<type>* flows, int count, const type* x, const type* y, long rows,             \
        int channels, const float* scale, const float* mean, const float* inverse_std,           \
        const float* factor, const float* shift, bool own_statistics, int threads) {             \
        (count == 1 ? backward<1, type> : backward<2, type>)(                                    \
            flows, x, y, rows, channels, scale, mean, inverse_std, factor, shift,                \
            own_statistics, threads);                                                            \
    }

FOR_TYPE(float, float32)
FOR_TYPE(bfloat16, bfloat16)
