/* Elementary functions in float and double. */

#pragma once

#include <math.h>
#include <stdint.h>

#include <limits>

/* Loops over lanes become vectors only where nothing is called. */
#define ALWAYS_INLINE inline __attribute__((always_inline))

/* A box of this size overlaps no truth beyond any threshold, and its area is finite. */
template <typename Real>
constexpr Real kMaxSize;
template <>
inline constexpr float kMaxSize<float> = 0x1p60f;
template <>
inline constexpr double kMaxSize<double> = 0x1p500;

template <typename Real>
constexpr Real kMinPositive = std::numeric_limits<Real>::denorm_min();

#ifdef FP_FAST_FMAF
static inline float fma_(float a, float b, float c) { return fmaf(a, b, c); }
#else
static inline float fma_(float a, float b, float c) { return a * b + c; }
#endif

/* e^x: 2^n·e^r with |r| ≤ ln 2 / 2, by Taylor's polynomial; 2^n in two factors, for either end of the range. */
static ALWAYS_INLINE float exponential(float x) {
    const float shift = 12582912.0f; /* 1.5·2^23: a sum with it is rounded to a whole number, in its lowest bits */
    x = x > 89.0f ? 89.0f : x;
    x = x < -104.0f ? -104.0f : x;
    float shifted = x * 1.44269504f + shift;
    float n = shifted - shift;
    float r = fma_(n, 2.12194440e-4f, fma_(n, -0.693359375f, x));
    float p = 1.0f / 5040;
    p = fma_(p, r, 1.0f / 720);
    p = fma_(p, r, 1.0f / 120);
    p = fma_(p, r, 1.0f / 24);
    p = fma_(p, r, 1.0f / 6);
    p = fma_(p, r, 0.5f);
    p = fma_(p * r, r, r) + 1.0f;
    union { float number; int32_t bits; } whole = {shifted}, low, high;
    int32_t power = whole.bits - 0x4B400000;
    int32_t half = power >> 1;
    low.bits = (half + 127) << 23;
    high.bits = (power - half + 127) << 23;
    return p * low.number * high.number;
}

static ALWAYS_INLINE double exponential(double x) { return exp(x); }

template <typename Real>
static ALWAYS_INLINE Real logistic(Real x) {
    return 1 / (1 + exponential(-x));
}

template <typename Real>
static ALWAYS_INLINE Real smaller(Real a, Real b) {
    return a < b ? a : b;
}

template <typename Real>
static ALWAYS_INLINE Real larger(Real a, Real b) {
    return a > b ? a : b;
}
