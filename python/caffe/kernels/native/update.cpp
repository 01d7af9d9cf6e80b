// One step of SGD or Nesterov for many parameters in one pass over memory: regularise, remember,
// subtract, and round a copy to bfloat16 where one is kept.

#include <algorithm>

#include "threads.h"
#include "vectors.h"

namespace {

struct Rule {
    float rate, momentum, decay, gradient_factor;
    bool nesterov;
};

// The update is V' = momentum V + rate g, or with Nesterov (1 + momentum) V' - momentum V.
template <class Value>
Value remember(Value gradient, Value weight, Value& velocity, const Rule& rule) {
    Value before = velocity;
    gradient = rule.decay ? gradient * rule.gradient_factor + weight * rule.decay
                          : gradient * rule.gradient_factor;  // a weight may be infinite
    velocity = before * rule.momentum + gradient * rule.rate;
    return rule.nesterov ? velocity * (1 + rule.momentum) - before * rule.momentum : velocity;
}

void step(float* weight, float* gradient, float* velocity, bfloat16* copy, long count,
          const Rule& rule, bool keep_diff) {
    long whole = count - count % LANES;
    for (long at = 0; at < whole; at += LANES) {
        Floats w = load(weight + at), v = load(velocity + at);
        Floats update = remember(load(gradient + at), w, v, rule);
        store(velocity + at, v);
        w -= update;
        store(weight + at, w);
        if (keep_diff) store(gradient + at, update);
        if (copy) store(copy + at, w);
    }
    if (whole == count) return;
    float w[LANES] = {}, g[LANES] = {}, v[LANES] = {};  // the last few
    bfloat16 c[LANES];
    long rest = count - whole;
    std::copy_n(weight + whole, rest, w);
    std::copy_n(gradient + whole, rest, g);
    std::copy_n(velocity + whole, rest, v);
    step(w, g, v, copy ? c : nullptr, LANES, rule, keep_diff);
    std::copy_n(w, rest, weight + whole);
    std::copy_n(g, rest, gradient + whole);
    std::copy_n(v, rest, velocity + whole);
    if (copy) std::copy_n(c, rest, copy + whole);
}

}  // namespace

// Arrays of `tensors` pointers; copies[i] may be null. Each tensor's memory is dense, all of one
// index in the same order.
extern "C" void update_sgd(int tensors, float** weights, float** gradients, float** velocities,
                           bfloat16** copies, const long* counts, float rate, float momentum,
                           float decay, float gradient_factor, bool nesterov, bool keep_diffs,
                           int threads) {
    Rule rule{rate, momentum, decay, gradient_factor, nesterov};
    long total = 0;
    for (int i = 0; i < tensors; ++i) total += counts[i];
    in_parallel(total < 1 << 15 ? 1 : threads, total, [=](int, long begin, long end) {
        long before = 0;  // of the tensors so far
        for (int i = 0; i < tensors && before < end; before += counts[i++]) {
            long from = std::max(begin - before, 0L), to = std::min(end - before, counts[i]);
            if (from < to)
                step(weights[i] + from, gradients[i] + from, velocities[i] + from,
                     copies[i] ? copies[i] + from : nullptr, to - from, rule, keep_diffs);
        }
    });
}
