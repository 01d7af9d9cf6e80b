// The product of up to 14 rows with a panel of weights, in registers; see steps.h.
#pragma once

#include "steps.h"

constexpr int STEP = MOST_PIXELS * LANES;  // of the rows, which lie as (channels / 16, 14 rows, 16)

// Values that come next, to be fetched meanwhile: so many lines of the cache with each 16 channels.
struct Next {
    const float* from;
    long lines;

    // `values`, fetched in the course of so many products of so many channels.
    static Next of(const float* from, long values, long products, int channels) {
        long times = products * over(channels, LANES);
        return {from, over(values, LANES * times)};
    }
    // The part of product `number`.
    Next part(long number, int channels) const {
        return {from + number * over(channels, LANES) * lines * LANES, lines};
    }
};

// Adds to `tops`, a row every `top_row` values, rows `x` times the weights `w` of so many channels.
typedef void (*Multiply)(const float* x, const float* w, int channels, const Sums& tops,
                         long top_row, Next next);
extern const Multiply MULTIPLY[MOST_PIXELS];  // [rows - 1]
