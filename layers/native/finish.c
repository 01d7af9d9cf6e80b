/* From the bytes of an image to the floats that a net reads, in one pass: for layers/finish.py. */

#include <stdint.h>

#if defined(__SSE2__)
#include <emmintrin.h>

/* 16 values as (x - mean + shift) * scale, each step rounded as PyTorch and numpy round it. The
   stores go past the caches, which a batch would not fit into: so memory is not read in vain. */
static void finish_16(const uint8_t *pixels, const float *mean, const float *shift, __m128 scale,
                      float *out) {
  const __m128i zero = _mm_setzero_si128(), all = _mm_loadu_si128((const __m128i *)pixels);
  const __m128i halves[2] = {_mm_unpacklo_epi8(all, zero), _mm_unpackhi_epi8(all, zero)};
  for (int k = 0; k < 4; k++) {
    __m128i whole = k % 2 ? _mm_unpackhi_epi16(halves[k / 2], zero)
                          : _mm_unpacklo_epi16(halves[k / 2], zero);
    __m128 value = _mm_sub_ps(_mm_cvtepi32_ps(whole), _mm_loadu_ps(mean + 4 * k));
    value = _mm_mul_ps(_mm_add_ps(value, _mm_loadu_ps(shift + 4 * k)), scale);
    _mm_stream_ps(out + 4 * k, value);
  }
}
#endif

/* One image of `rows` rows of `count` values. A row of `shift` is for all of its rows; those of
   `mean` are `mean_stride` values apart, 0: one for all. */
void finish(const uint8_t *pixels, const float *mean, long mean_stride, const float *shift,
            float scale, float *out, long rows, long count) {
  for (long row = 0; row < rows; row++, pixels += count, mean += mean_stride, out += count) {
    long x = 0;
#if defined(__SSE2__)
    if ((uintptr_t)out % 16 == 0)
      for (; x + 16 <= count; x += 16)
        finish_16(pixels + x, mean + x, shift + x, _mm_set1_ps(scale), out + x);
#endif
    for (; x < count; x++) out[x] = ((float)pixels[x] - mean[x] + shift[x]) * scale;
  }
#if defined(__SSE2__)
  _mm_sfence();
#endif
}
