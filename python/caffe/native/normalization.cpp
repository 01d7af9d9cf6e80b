// BatchNorm, Scale, the sum with another blob and ReLU in as few passes over memory as there can
// be: one for the statistics and one for the values, forward and backward.
//
// All images are (rows, channels): channels last, rows = N * H * W, channels a multiple of 16.
// Statistics and parameters are float, whatever the images are.

#include <algorithm>
#include <cmath>
#include <utility>
#include <vector>

#include "threads.h"
#include "vectors.h"

namespace {

constexpr long GROUP = 16;   // rows that are added up before the sums in memory are touched
constexpr int WAYS = 4;      // sums side by side in a group: an addition need not wait for the last
constexpr long BLOCK = 128;  // rows whose sums are kept in single precision

// Sums over the rows of a block, per channel, kept in double from block to block.
struct Sums {
    explicit Sums(int channels)
        : first(channels), second(channels), block_first(channels), block_second(channels) {}

    void end_block() {
        for (size_t c = 0; c < first.size(); ++c) {
            first[c] += block_first[c];
            second[c] += block_second[c];
        }
        std::fill(block_first.begin(), block_first.end(), 0.0f);
        std::fill(block_second.begin(), block_second.end(), 0.0f);
    }

    std::vector<double> first, second;
    std::vector<float> block_first, block_second;
};

Floats total(const Floats* ways) { return (ways[0] + ways[1]) + (ways[2] + ways[3]); }

// Adds term(row, c), a pair of Floats, for all rows and channels to `sums`.
template <class Term>
void add_rows(Sums& sums, long begin, long end, int channels, Term term) {
    for (long block = begin; block < end; block += BLOCK) {
        long stop = std::min(block + BLOCK, end);
        for (long row = block; row < stop; row += GROUP) {
            long rows = std::min(GROUP, stop - row);
            for (int c = 0; c < channels; c += LANES) {
                Floats first[WAYS] = {load(&sums.block_first[c])};
                Floats second[WAYS] = {load(&sums.block_second[c])};
                auto add = [&](long r, int way) {
                    Floats a, b;
                    term(row + r, c, a, b);
                    first[way] += a;
                    second[way] += b;
                };
                long r = 0;
                for (; r + WAYS <= rows; r += WAYS)
                    for (int way = 0; way < WAYS; ++way) add(r + way, way);
                for (; r < rows; ++r) add(r, 0);
                store(&sums.block_first[c], total(first));
                store(&sums.block_second[c], total(second));
            }
        }
        sums.end_block();
    }
}

// The mean of some rows: what the values are measured from, so that squares do not cancel.
template <class T>
std::vector<float> mean_of_rows(const T* x, long rows, int channels) {
    Sums sums(channels);
    add_rows(sums, 0, rows, channels, [=](long row, int c, Floats& a, Floats& b) {
        a = load(x + row * channels + c);
        b = a - a;
    });
    std::vector<float> mean(channels);
    for (int c = 0; c < channels; ++c) mean[c] = sums.first[c] / rows;
    return mean;
}

// The sums over all rows. Each thread adds up in memory of its own: two that write to one cache line
// would wait for each other.
template <class Term>
Sums add_in_parallel(long rows, int channels, int threads, Term term) {
    std::vector<Sums> parts(threads, Sums(0));
    in_parallel(threads, rows, [&](int part, long begin, long end) {
        Sums sums(channels);
        add_rows(sums, begin, end, channels, term);
        parts[part] = std::move(sums);
    });
    for (int part = 1; part < threads; ++part)
        for (int c = 0; c < channels; ++c) {
            parts[0].first[c] += parts[part].first[c];
            parts[0].second[c] += parts[part].second[c];
        }
    return std::move(parts[0]);
}

// Mean and biased variance of the rows.
template <class T>
void measure(const T* x, long rows, int channels, float* mean, float* variance, int threads) {
    threads = threads_for(rows, channels, threads);
    std::vector<float> origin = mean_of_rows(x, std::min(rows, BLOCK), channels);
    const float* from = origin.data();
    Sums sums = add_in_parallel(rows, channels, threads,
                                [=](long row, int c, Floats& a, Floats& b) {
                                    a = load(x + row * channels + c) - load(from + c);
                                    b = a * a;
                                });
    for (int c = 0; c < channels; ++c) {
        double shifted = sums.first[c] / rows;
        mean[c] = origin[c] + shifted;
        variance[c] = std::max(sums.second[c] / rows - shifted * shifted, 0.0);
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

template <class T, class Value>
void write_rows(T* y, long rows, int channels, int threads, Value value) {
    in_parallel(threads, rows, [=](int, long begin, long end) {
        for (long row = begin; row < end; ++row)
            for (int c = 0; c < channels; c += LANES)
                store(y + row * channels + c, value(row * channels + c, c));
    });
}

// y = x factor + shift (+ other), rectified or not.
template <class T>
void apply(const T* x, const T* other, T* y, long rows, int channels, const float* factor,
           const float* shift, bool rectify, int threads) {
    auto affine = [=](long at, int c) { return load(x + at) * load(factor + c) + load(shift + c); };
    if (other && rectify)
        write_rows(y, rows, channels, threads,
                   [=](long at, int c) { return positive(affine(at, c) + load(other + at)); });
    else if (other)
        write_rows(y, rows, channels, threads,
                   [=](long at, int c) { return affine(at, c) + load(other + at); });
    else if (rectify)
        write_rows(y, rows, channels, threads,
                   [=](long at, int c) { return positive(affine(at, c)); });
    else
        write_rows(y, rows, channels, threads, affine);
}

struct Gradient {
    double sum, sum_centred;  // of the diff, and of the diff times (x - mean), over the rows
};

template <class T, class Diff>
std::vector<Gradient> sum_gradients(const T* x, long rows, int channels, const float* mean,
                                    int threads, Diff diff) {
    Sums sums = add_in_parallel(rows, channels, threads,
                                [=](long row, int c, Floats& a, Floats& b) {
                                    long at = row * channels + c;
                                    a = diff(at, c);
                                    b = a * (load(x + at) - load(mean + c));
                                });
    std::vector<Gradient> gradients(channels);
    for (int c = 0; c < channels; ++c) gradients[c] = {sums.first[c], sums.second[c]};
    return gradients;
}

// What of a row's diff goes into dx: slope diff + tilt (x - mean) + level.
struct Line {
    std::vector<float> slope, tilt, level;
};

Line line_of(const std::vector<Gradient>& sums, long rows, const float* scale,
             const float* inverse_std, bool own_statistics) {
    size_t channels = sums.size();
    Line line{std::vector<float>(channels), std::vector<float>(channels),
              std::vector<float>(channels)};
    for (size_t c = 0; c < channels; ++c) {
        double deviation = inverse_std[c], slope = (scale ? scale[c] : 1.0f) * deviation;
        line.slope[c] = slope;
        if (!own_statistics) continue;
        line.tilt[c] = -slope * deviation * deviation * sums[c].sum_centred / rows;
        line.level[c] = -slope * sums[c].sum / rows;
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

// below: where the diff below the ReLU is kept for the second pass, or null.
template <class T>
void backward(const T* dy, const T* second, const T* x, const T* y, T* below, T* dx, long rows,
              int channels, const float* scale, const float* mean, const float* inverse_std,
              const float* factor, const float* shift, float* dscale, float* dbias,
              bool own_statistics, int threads) {
    threads = threads_for(rows, channels, threads);
    auto one = [=](long at) { return load(dy + at); };
    auto both = [=](long at) { return load(dy + at) + load(second + at); };
    auto by_top = [=](auto diff) {
        return [=](long at, int) {
            return load(y + at) > 0 ? diff(at) : diff(at) - diff(at);
        };
    };
    auto by_bottom = [=](auto diff) {  // as in forward: the same sum, the same sign
        return [=](long at, int c) {
            Floats top = load(x + at) * load(factor + c) + load(shift + c);
            return top > 0 ? diff(at) : diff(at) - diff(at);
        };
    };
    auto plain = [=](auto diff) { return [=](long at, int) { return diff(at); }; };
    auto kept = [=](auto diff) {
        return [=](long at, int c) {
            store(below + at, diff(at, c));
            return load(below + at);  // the sums must be of what the second pass reads
        };
    };
    auto add = [=](auto diff) { return sum_gradients(x, rows, channels, mean, threads, diff); };

    std::vector<Gradient> sums = y && second      ? add(kept(by_top(both)))
                                 : y              ? add(kept(by_top(one)))
                                 : factor && second ? add(kept(by_bottom(both)))
                                 : factor         ? add(by_bottom(one))
                                 : second         ? add(kept(plain(both)))
                                                  : add(plain(one));
    for (int c = 0; c < channels; ++c) {
        dscale[c] = sums[c].sum_centred * inverse_std[c];
        dbias[c] = sums[c].sum;
    }
    if (!dx) return;
    Line line = line_of(sums, rows, scale, inverse_std, own_statistics);
    const float *slope = line.slope.data(), *tilt = line.tilt.data(), *level = line.level.data();
    auto through = [=](auto diff) {
        return [=](long at, int c) {
            Floats centred = load(x + at) - load(mean + c);
            return diff(at, c) * load(slope + c) + (centred * load(tilt + c) + load(level + c));
        };
    };
    if (below)
        write_rows(dx, rows, channels, threads,
                   through([=](long at, int) { return load(below + at); }));
    else if (factor)
        write_rows(dx, rows, channels, threads, through(by_bottom(one)));
    else
        write_rows(dx, rows, channels, threads, through(plain(one)));
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
        const type* dy, const type* second, const type* x, const type* y, type* below, type* dx, \
        long rows, int channels, const float* scale, const float* mean,                          \
        const float* inverse_std, const float* factor, const float* shift, float* dscale,        \
        float* dbias, bool own_statistics, int threads) {                                        \
        backward(dy, second, x, y, below, dx, rows, channels, scale, mean, inverse_std, factor,  \
                 shift, dscale, dbias, own_statistics, threads);                                 \
    }

FOR_TYPE(float, float32)
FOR_TYPE(bfloat16, bfloat16)
