// Work shared among PyTorch's own threads: its OpenMP library serves this one, too.
#pragma once

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

// How many threads rows of so many values are worth: waking one takes longer than a few values.
inline int threads_for(long rows, long values, int threads) {
    return rows * values < 1 << 15 || rows < threads ? 1 : threads;
}
