// Sixteen floats at a time, from and to float or bfloat16 memory, and sixteen small whole numbers
// from and to bytes. The compiler makes of them what the processor has; where GCC 12 makes several
// instructions of one, it is told which.
#pragma once

#include <cstdint>
#include <cstring>
#ifdef __AVX512F__
#include <immintrin.h>
#endif

typedef float Floats __attribute__((vector_size(64)));
typedef int32_t Ints __attribute__((vector_size(64)));
typedef uint32_t Bits __attribute__((vector_size(64)));
typedef uint16_t Halves __attribute__((vector_size(32)));
typedef int8_t Bytes __attribute__((vector_size(16)));

constexpr int LANES = 16;

struct bfloat16 {
    uint16_t bits;
};

inline Floats load(const float* from) {
    Floats values;
    memcpy(&values, from, sizeof values);
    return values;
}

inline Floats load(const bfloat16* from) {
    Halves upper;
    memcpy(&upper, from, sizeof upper);
#ifdef __AVX512F__
    Bits wide = reinterpret_cast<Bits>(_mm512_cvtepu16_epi32(reinterpret_cast<__m256i>(upper)));
#else
    Bits wide = __builtin_convertvector(upper, Bits);
#endif
    Bits bits = wide << 16;
    Floats values;
    memcpy(&values, &bits, sizeof values);
    return values;
}

// Caffe's -FLT_MAX, or the finite value that is nearest to it.
inline float lowest(const float*) { return -3.40282347e38f; }
inline float lowest(const bfloat16*) { return -3.38953139e38f; }

inline void store(float* to, Floats values) { memcpy(to, &values, sizeof values); }

// Rounds to nearest, ties to even; a NaN stays one. The processor's own instruction makes zeros of
// numbers below 1.2e-38.
inline void store(bfloat16* to, Floats values) {
#ifdef __AVX512BF16__
    __m256bh upper = _mm512_cvtneps_pbh(reinterpret_cast<__m512>(values));
#else
    Bits bits;
    memcpy(&bits, &values, sizeof bits);
    Bits rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
    Ints is_number = values == values;
    rounded = is_number ? rounded : rounded - rounded + 0x7fc0;
    Halves upper = __builtin_convertvector(rounded, Halves);
#endif
    memcpy(to, &upper, sizeof upper);
}

// max(values, 0), and NaN of NaN.
inline Floats positive(Floats values) {
#ifdef __AVX512F__
    // of a NaN or two zeros the second
    __m512 most = _mm512_max_ps(_mm512_setzero_ps(), reinterpret_cast<__m512>(values));
    return reinterpret_cast<Floats>(most);
#else
    return values <= 0 ? Floats{} : values;
#endif
}

// Where a ReLU passes the diff of what it made of `values`: NaN, too, as in PyTorch.
inline Ints passes(Floats values) { return ~(values <= 0); }

inline Ints load(const int8_t* from) {
    Bytes bytes;
    memcpy(&bytes, from, sizeof bytes);
#ifdef __AVX512F__
    return reinterpret_cast<Ints>(_mm512_cvtepi8_epi32(reinterpret_cast<__m128i>(bytes)));
#else
    return __builtin_convertvector(bytes, Ints);
#endif
}

inline void store(int8_t* to, Ints values) {
#ifdef __AVX512F__
    __m128i bytes = _mm512_cvtepi32_epi8(reinterpret_cast<__m512i>(values));
#else
    Bytes bytes = __builtin_convertvector(values, Bytes);
#endif
    memcpy(to, &bytes, sizeof bytes);
}
