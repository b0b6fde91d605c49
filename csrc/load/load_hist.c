#include "load_hist.h"

#include <string.h>

void mux_hist_reset(mux_hist *hist)
{
    memset(hist, 0, sizeof *hist);
}

static unsigned bucket_of(uint64_t value)
{
    if (value < (1u << MUX_HIST_BITS))
        return (unsigned)value;
    if (value >> MUX_HIST_TOP)
        return MUX_HIST_BUCKETS - 1;
    unsigned octave = 63u - (unsigned)__builtin_clzll(value) - MUX_HIST_BITS;
    return (octave << MUX_HIST_BITS) + (unsigned)(value >> octave);
}

void mux_hist_add(mux_hist *hist, uint64_t nanoseconds)
{
    hist->count[bucket_of(nanoseconds)]++;
    if (nanoseconds > hist->max)
        hist->max = nanoseconds;
}
