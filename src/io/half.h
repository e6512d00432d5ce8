// IEEE 754 half precision (binary16): how Q, K and V of trained heads are stored, two bytes a
// number.
//
// 1 sign bit, 5 exponent bits, 10 fraction bits: about three decimal digits, largest number
// 65504, smallest normal 2^-14, smallest denormal 2^-24.
#ifndef MRA_IO_HALF_H
#define MRA_IO_HALF_H

#include <stddef.h>
#include <stdint.h>

// The nearest half, ties to the even fraction. Values of 65520 and above become infinity,
// values of 2^-25 and below zero, with their sign; a NaN stays a (quiet) NaN.
uint16_t mra_half_from_float(float value);
// Exact: every half is a float.
float mra_half_to_float(uint16_t half);

// The same for arrays; by the processor's own instructions (F16C) where the build has them,
// with equal results.
void mra_halves_from_floats(uint16_t *halves, const float *values, size_t count);
void mra_halves_to_floats(float *values, const uint16_t *halves, size_t count);

// Brain floats (bfloat16) are the upper halves of floats: 8 exponent bits, 7 fraction bits. Exact.
void mra_bfloats_to_floats(float *values, const uint16_t *bfloats, size_t count);

#endif
