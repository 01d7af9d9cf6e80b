// Local response normalization across channels, of rows of channels, a multiple of 16:
// y = x / (k + alpha mean(x^2))^beta, the mean over `size` neighbouring channels.

#include <cmath>
#include <vector>

#include "threads.h"
#include "vectors.h"

namespace {

inline Floats root(Floats values) {
#ifdef __AVX512F__
    return reinterpret_cast<Floats>(_mm512_sqrt_ps(reinterpret_cast<__m512>(values)));
#else
    for (int lane = 0; lane < LANES; ++lane) values[lane] = std::sqrt(values[lane]);
    return values;
#endif
}

inline Floats power(Floats values, float exponent) {
    if (exponent == 0.75f) {  // of every net that is known for this layer
        Floats half = root(values);
        return half * root(half);
    }
    for (int lane = 0; lane < LANES; ++lane) values[lane] = std::pow(values[lane], exponent);
    return values;
}

template <class T>
void normalize_response(const T* x, T* y, long rows, int channels, int size, float alpha,
                        float beta, float k, int threads) {
    threads = threads_for(rows, channels, threads);
    in_parallel(threads, rows, [=](int, long begin, long end) {
        std::vector<float> squares(channels + size + LANES);  // with zeros around them
        for (long row = begin; row < end; ++row) {
            const T* from = x + row * channels;
            for (int c = 0; c < channels; c += LANES) {
                Floats value = load(from + c);
                store(squares.data() + size / 2 + c, value * value);
            }
            for (int c = 0; c < channels; c += LANES) {
                Floats sum{};
                for (int near = 0; near < size; ++near) sum += load(squares.data() + c + near);
                store(y + row * channels + c, load(from + c) / power(k + alpha / size * sum, beta));
            }
        }
    });
}

}  // namespace

#define FOR_TYPE(type, suffix)                                                                   \
    extern "C" void normalize_response_##suffix(const type* x, type* y, long rows, int channels, \
                                                int size, float alpha, float beta, float k,      \
                                                int threads) {                                   \
        normalize_response(x, y, rows, channels, size, alpha, beta, k, threads);                 \
    }

FOR_TYPE(float, float32)
FOR_TYPE(bfloat16, bfloat16)
