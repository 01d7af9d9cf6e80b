// A step of inference: softmax over the channels of each pixel or row.

#include "steps.h"
#include "threads.h"

namespace {

// e^x for x <= 0, 0 below 1.2e-38, NaN of NaN. x = n ln 2 + rest, and of the rest Taylor's series:
// the first term left out is below 6e-9.
Floats exponential(Floats x) {
    constexpr float LEAST = -87.33654f, LOG2_E = 1.4426950409f;
    constexpr float LN2_HIGH = 0.693359375f, LN2_LOW = -2.12194440e-4f;  // n times it is exact
    constexpr float TO_WHOLE = 12582912.0f;  // 1.5 2^23: what is added to it becomes whole
    Floats shifted = x * LOG2_E + TO_WHOLE, n = shifted - TO_WHOLE;
    Floats rest = x - n * LN2_HIGH - n * LN2_LOW, series = Floats{} + 1;
#pragma GCC unroll 7
    for (int term = 7; term > 0; --term) series = 1 + rest * series * (1.0f / term);
    Ints exponent;
    memcpy(&exponent, &shifted, sizeof exponent);
    Ints bits = exponent << 23;  // of n, as what TO_WHOLE has is shifted out
    Ints result;
    memcpy(&result, &series, sizeof result);
    result += bits;
    Floats value;
    memcpy(&value, &result, sizeof value);
    value = x < LEAST ? Floats{} : value;
    return x == x ? value : x;
}

// Sixteen values, or the last `some`, then others.
template <class T>
Floats load_some(const T* from, int some, Floats others) {
    if (some >= LANES) return load(from);
    T part[LANES];
    store(part, others);
    memcpy(part, from, some * sizeof(T));
    return load(part);
}

template <class T>
void store_some(T* to, int some, Floats values) {
    if (some >= LANES) return store(to, values);
    T part[LANES];
    store(part, values);
    memcpy(to, part, some * sizeof(T));
}

float largest(Floats values) {
    float most = values[0];
    for (int lane = 1; lane < LANES; ++lane) most = std::max(most, values[lane]);
    return most;
}

float total(Floats values) {
    float sum = 0;
    for (int lane = 0; lane < LANES; ++lane) sum += values[lane];
    return sum;
}

template <class T>
void softmax(const T* x, T* y, int channels) {
    const Floats least = Floats{} + lowest(x);
    Floats most = least, sum{};
    for (int c = 0; c < channels; c += LANES) {
        Floats value = load_some(x + c, channels - c, least);
        most = value > most ? value : most;
    }
    const float highest = largest(most);
    auto power = [=](int c) {
        return exponential(load_some(x + c, channels - c, least) - highest);
    };
    for (int c = 0; c < channels; c += LANES) {
        Floats value = power(c);
        for (int lane = channels - c; lane < LANES; ++lane) value[lane] = 0;
        sum += value;
    }
    const float all = total(sum);
    for (int c = 0; c < channels; c += LANES) store_some(y + c, channels - c, power(c) / all);
}

template <class T>
void softmax(const StepOf<T>& s, int threads) {
    long rows = (long)s.count * s.y.tops * s.x.tops;
    in_parallel(threads_for(rows, s.inputs, threads), rows, [&](int, long begin, long end) {
        for (long row = begin; row < end; ++row)
            softmax(s.image + row * s.image_pixel, s.top + row * s.top_pixel, s.inputs);
    });
}

}  // namespace

extern "C" void softmax(const StepOf<float>* step, int threads) { softmax(*step, threads); }
extern "C" void softmax_bf16(const StepOf<bfloat16>* step, int threads) { softmax(*step, threads); }
