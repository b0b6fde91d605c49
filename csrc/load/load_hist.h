/* A log-linear histogram of times in nanoseconds.
 *
 * Invariants:
 *   - a value below 128 has a bucket of its own; above, each octave is cut into 128 buckets, so the
 *     width of a bucket is at most 1/128 of its lower end: an error of 0.8 %, and 0.4 % from the middle;
 *   - counts only grow until mux_hist_reset, and two histograms merge by adding their counts;
 *   - `max` is exact; a value of 2^40 ns (18 minutes) or more is counted in the last bucket.
 *
 * Percentiles are computed in Python (muxcore/load/histogram.py has the same layout), so that the
 * native and the pure generator cannot disagree about them.
 */
#ifndef MUX_LOAD_HIST_H
#define MUX_LOAD_HIST_H

#include <stdint.h>

#define MUX_HIST_BITS 7      /* 2^7 buckets an octave: the coarsest power of two within 1 % */
#define MUX_HIST_TOP 40      /* values have at most this many bits */
#define MUX_HIST_BUCKETS ((MUX_HIST_TOP - MUX_HIST_BITS + 1) << MUX_HIST_BITS)

typedef struct {
    uint64_t count[MUX_HIST_BUCKETS];
    uint64_t max;
} mux_hist;

void mux_hist_reset(mux_hist *hist);
void mux_hist_add(mux_hist *hist, uint64_t nanoseconds);

#endif
