// Exponentials and maxima of whole rows, written so that the compiler turns them into vector
// code.
//
// The C library's expf is exact to the last digit or so, but is a call per number. Attention
// takes one exponential per pair of tokens; at that rate the call would cost more than the
// matrix products. Here exp is a handful of multiplications and additions without a branch, so
// that a loop over it runs on 16 numbers at a time where the processor has 512-bit registers
// (16 additions and multiplications of such registers for 16 results).
//
// With n the integer nearest to x / ln 2,
//
//     exp(x) = 2^n exp(r),   r = x - n ln 2,   |r| <= (ln 2) / 2,
//
// where ln 2 is taken as a sum of two floats, the first with so many trailing zeros that n
// times it is exact, (Cody & Waite, "Software Manual for the Elementary Functions", 1980) and
// exp(r) is a polynomial of degree 6. Adding 1.5 * 2^23 rounds to an integer and leaves it in
// the low bits, from where it is shifted into the exponent of a float: that is 2^n. Largest
// error: below 1 unit in the last place (tests/tensor/test_gemm.c looks at it).
//
// The loops state with `omp simd` that their iterations may be taken several at a time. A sum
// is then as many partial sums as a register has lanes: its order depends on the machine and
// the number of terms, never on threads. Everything here is for the calling thread; pointers
// need no alignment.
#ifndef MRA_TENSOR_VECTOR_H
#define MRA_TENSOR_VECTOR_H

#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

// a b + c, rounded once where the processor does so in one instruction (ISO C forbids the
// compiler to do that to a * b + c by itself), rounded twice elsewhere.
static inline float mra_multiply_add(float a, float b, float c)
{
#ifdef __FMA__
    return fmaf(a, b, c);
#else
    return a * b + c;
#endif
}

// exp(x), within 1 unit in the last place. exp(0) is exactly 1. Below -86.98 (where exp(x) <
// 1.7e-38 is about to leave the normal numbers), and at -infinity, exactly 0; above 88.72,
// infinity; NaN stays NaN.
static inline float mra_exp(float x)
{
    const float shifter = 0x1.8p23f;
    const float shifted = mra_multiply_add(x, 0x1.715476p0f, shifter); // 1 / ln 2
    const float n = shifted - shifter;
    float r = mra_multiply_add(n, -0x1.62e400p-1f, x); // ln 2 = 0x1.62e4p-1 + 0x1.7f7d1cp-20
    r = mra_multiply_add(n, -0x1.7f7d1cp-20f, r);

    // 2 exp(r), so that 2^(n-1) stays finite up to the largest float: 1 + r + the polynomial
    // whose largest relative error (3.1e-9) on the interval is least, times two.
    float p = 0x1.6a2434p-9f;
    p = mra_multiply_add(p, r, 0x1.1239e2p-6f);
    p = mra_multiply_add(p, r, 0x1.5558f2p-4f);
    p = mra_multiply_add(p, r, 0x1.555492p-2f);
    p = mra_multiply_add(p, r, 0x1.fffffcp-1f);
    p = mra_multiply_add(p, r, 2.0f);
    p = mra_multiply_add(p, r, 2.0f);

    uint32_t bits; // the integer n stands in the low bits; 126 = the exponent's offset, less 1
    memcpy(&bits, &shifted, sizeof bits);
    bits = (bits + 126u) << 23;
    float scale;
    memcpy(&scale, &bits, sizeof scale);
    const float value = p * scale;
    return x < -86.98f ? 0.0f : x > 88.722839f ? INFINITY : value;
}

// The largest of x[0 .. n); -infinity when n is 0. NaN: unspecified.
static inline float mra_row_max(const float *x, size_t n)
{
    float largest = -INFINITY;
#pragma omp simd reduction(max : largest)
    for (size_t i = 0; i < n; i++) largest = x[i] > largest ? x[i] : largest;
    return largest;
}

// x[i] <- exp(x[i] - shift) in place for i in [0, n); returns their sum. With shift the largest
// entry this is the numerator and denominator of a softmax; when that is -infinity (nothing to
// attend to) pass 0 instead.
static inline float mra_exp_row(float *x, size_t n, float shift)
{
    float sum = 0.0f;
#pragma omp simd reduction(+ : sum)
    for (size_t i = 0; i < n; i++) {
        const float value = mra_exp(x[i] - shift);
        x[i] = value;
        sum += value;
    }
    return sum;
}
#endif
