/* The one source of chance: everything that a run does follows from a seed. */
#ifndef RNG_H
#define RNG_H

#include <stdbool.h>
#include <stdint.h>

typedef struct rng {
    uint64_t state;
} rng;

/* splitmix64 (Steele, Lea, Flood 2014): any state is a good one. */
static inline uint64_t rng_next(rng *from)
{
    uint64_t mixed = from->state += 0x9E3779B97F4A7C15u;
    mixed = (mixed ^ mixed >> 30) * 0xBF58476D1CE4E5B9u;
    mixed = (mixed ^ mixed >> 27) * 0x94D049BB133111EBu;
    return mixed ^ mixed >> 31;
}

/* 0 … bound - 1; bound is at least 1. */
static inline uint32_t rng_below(rng *from, uint32_t bound)
{
    return (uint32_t)((rng_next(from) >> 32) * bound >> 32);
}

static inline uint32_t rng_between(rng *from, uint32_t least, uint32_t most)
{
    return least + rng_below(from, most - least + 1);
}

/* True so many times of 1,024. */
static inline bool rng_hits(rng *from, uint32_t of_1024)
{
    return (rng_next(from) >> 54) < of_1024;
}

#endif
