// Work shared among PyTorch's own threads: its OpenMP library serves this one, too.
#pragma once

#include <atomic>
#include <omp.h>
#include <vector>

// Calls work(part, begin, end) for each of `parts` equal pieces of 0 .. count.
template <class Work>
void in_parallel(int parts, long count, Work work) {
    if (parts == 1) {
        work(0, 0L, count);
        return;
    }
#pragma omp parallel for num_threads(parts) schedule(static, 1)
    for (int part = 0; part < parts; ++part)
        work(part, count * part / parts, count * (part + 1) / parts);
}

// The same with `turns` pieces for each thread. Who is done early takes others' pieces: other work may
// slow some threads. Else a thread gets the same share each time, and finds in its cache what it made.
template <class Work>
void in_turns(int threads, long turns, long count, Work work) {
    if (threads == 1) {
        work(0L, count);
        return;
    }
    turns = turns < 1 ? 1 : turns > 4 ? 4 : turns;
    std::vector<std::atomic<long>> taken(threads);
#pragma omp parallel num_threads(threads)
    for (int k = 0; k < threads; ++k) {
        long of = (omp_get_thread_num() + k) % threads, pieces = threads * turns;
        for (long turn; (turn = taken[of]++) < turns;) {
            long piece = of * turns + turn;
            work(count * piece / pieces, count * (piece + 1) / pieces);
        }
    }
}

// How many threads rows of so many values are worth: waking one takes longer than a few values.
inline int threads_for(long rows, long values, int threads) {
    return rows * values < 1 << 15 || rows < threads ? 1 : threads;
}
