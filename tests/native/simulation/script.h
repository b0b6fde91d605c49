/* A run is a script: how the loop and the kernel are set up, and what happens, one operation after another.
 *
 * An operation names connections by numbers that are taken modulo what is there, and has noise of its own,
 * from which all chance follows until the next one: so a script is still good, and most of it does the
 * same, when operations are taken out of it.
 */
#ifndef SCRIPT_H
#define SCRIPT_H

#include <stdbool.h>
#include <stdint.h>

#include "rng.h"
#include "world.h"

#define OPS_MOST 256

typedef struct op {
    uint8_t code;
    uint32_t a, b;
    uint32_t noise; /* 0: nothing goes wrong */
} op;

typedef struct script {
    world_options world;
    uint32_t edge, connections, read_chunk, high, low, reads, accepts;
    uint32_t idle_ms, close_ms, linger_ms, half_close_ms, pause_ms;
    uint32_t end;   /* how it ends: see final.c */
    bool plain;     /* all comes to rest after each operation */
    bool reacts;    /* the Python side does something when it hears something */
    bool guest;     /* it polls as a guest of another loop does */
    int count;
    op ops[OPS_MOST];
} script;

/* Where a script's numbers come from: a seed, or bytes (a fuzzer's). */
typedef struct script_source {
    rng seed;
    const uint8_t *bytes; /* NULL: the seed */
    uint64_t size, at;
} script_source;

void script_draw(script *to, script_source *from);
void script_draw_plain(script *to, script_source *from); /* without faults: the same on a real kernel */
void script_print(const script *what);
/* NULL: all is well; or the name of the invariant that it broke; fail_detail says how. */
const char *script_run(const script *what);

typedef struct script_totals {
    uint64_t runs, ops, turns;
} script_totals;
extern script_totals script_done;

#endif
