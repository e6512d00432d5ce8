// Conversion by integer arithmetic on the bit patterns.
//
// A float has 8 exponent bits (bias 127) and 23 fraction bits, a half 5 (bias 15) and 10. So a
// normal number loses 13 bits of fraction and 112 from its exponent. Rounding adds half of the
// last kept bit, less one unless that bit is odd, and lets the carry run: into the exponent if
// it must, and from the largest exponent into infinity, which is just what IEEE 754 asks for.

#include "io/half.h"

#include <string.h>
#ifdef __F16C__
#include <immintrin.h>
#endif

// `bits` without its last `drop` bits, rounded to nearest, ties to even.
static uint32_t shift_rounding(uint32_t bits, int drop)
{
    uint32_t odd = bits >> drop & 1u, half = UINT32_C(1) << (drop - 1);
    return (bits + half - 1u + odd) >> drop;
}

uint16_t mra_half_from_float(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    uint32_t sign = bits >> 16 & 0x8000u, magnitude = bits & 0x7fffffffu;
    if (magnitude > 0x7f800000u) // NaN: quiet, with the upper bits of its payload
        return (uint16_t)(sign | 0x7e00u | (magnitude >> 13 & 0x1ffu));
    if (magnitude >= 0x47800000u) return (uint16_t)(sign | 0x7c00u); // 2^16 and more, infinity
    if (magnitude >= 0x38800000u)                                    // 2^-14 and more: normal
        return (uint16_t)(sign | shift_rounding(magnitude - (112u << 23), 13));
    if (magnitude < 0x33000000u) return (uint16_t)sign; // below 2^-25
    // A denormal counts units of 2^-24: the fraction with its leading one, shifted by the
    // exponent.
    uint32_t fraction = (magnitude & 0x7fffffu) | 0x800000u;
    return (uint16_t)(sign | shift_rounding(fraction, 126 - (int)(magnitude >> 23)));
}

float mra_half_to_float(uint16_t half)
{
    uint32_t sign = (uint32_t)(half & 0x8000u) << 16, magnitude = half & 0x7fffu, bits;
    if (magnitude >= 0x7c00u) { // infinity or NaN (made quiet, as the processor does)
        bits = sign | 0x7f800000u | (magnitude & 0x3ffu) << 13;
        if (magnitude > 0x7c00u) bits |= 0x400000u;
    } else if (magnitude >= 0x0400u) { // normal
        bits = sign | ((magnitude << 13) + (112u << 23));
    } else { // zero or denormal: a count of 2^-24, exact in float
        float value = (float)magnitude * 0x1p-24f;
        memcpy(&bits, &value, sizeof bits);
        bits |= sign;
    }
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

void mra_halves_from_floats(uint16_t *halves, const float *values, size_t count)
{
    size_t i = 0;
#ifdef __F16C__
    for (; i + 8 <= count; i += 8) {
        __m256 eight = _mm256_loadu_ps(values + i);
        __m128i packed = _mm256_cvtps_ph(eight, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
        _mm_storeu_si128((__m128i *)(halves + i), packed);
    }
#endif
    for (; i < count; i++) halves[i] = mra_half_from_float(values[i]);
}

void mra_halves_to_floats(float *values, const uint16_t *halves, size_t count)
{
    size_t i = 0;
#ifdef __F16C__
    for (; i + 8 <= count; i += 8) {
        __m128i packed = _mm_loadu_si128((const __m128i *)(halves + i));
        _mm256_storeu_ps(values + i, _mm256_cvtph_ps(packed));
    }
#endif
    for (; i < count; i++) values[i] = mra_half_to_float(halves[i]);
}

void mra_bfloats_to_floats(float *values, const uint16_t *bfloats, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        const uint32_t bits = (uint32_t)bfloats[i] << 16;
        memcpy(&values[i], &bits, sizeof bits);
    }
}
