// The product of up to 14 rows with a panel of weights, in registers; see steps.h.
#pragma once

#include "steps.h"

constexpr int STEP = MOST_PIXELS * LANES;  // of the rows, which lie as (channels / 16, 14 rows, 16)

// Values that come next, to be fetched meanwhile.
struct Next {
    const float *from, *to;

    Next piece(long part, long parts) const {
        return {from + (to - from) * part / parts, from + (to - from) * (part + 1) / parts};
    }
};

// Adds to `tops`, a row every `top_row` values, rows `x` times the weights `w` of so many channels.
typedef void (*Multiply)(const float* x, const float* w, int channels, const Sums& tops,
                         long top_row, Next next);
extern const Multiply MULTIPLY[MOST_PIXELS];  // [rows - 1]
