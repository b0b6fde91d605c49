/* What the files of the loop share: its fields, and how a slot is found in it. */
#ifndef MUX_LOOP_INTERNAL_H
#define MUX_LOOP_INTERNAL_H

#include <errno.h>

#include "backend.h"
#include "batch.h"
#include "options.h"
#include "slots.h"
#include "syscalls.h"
#include "wheel.h"

/* Bytes that a relay receives at once, and that are dropped at once. */
#define MUX_SCRATCH (256 * 1024)

/* Deadlines looked at in one turn: a thousand closes take about 3 ms, and others wait meanwhile. */
#define MUX_EXPIRIES 1024

enum mux_life { MUX_IDLE_LOOP, MUX_POLLING, MUX_FREE_ASKED };

struct mux_verb_ops;

struct mux_joined {
    uint32_t index, generation;
    int64_t at; /* ns */
};

/* balance.c: workers that accept from the same sockets. */
struct mux_balance {
    const char *cells; /* NULL: there are no others */
    uint32_t count, size;
    uint32_t looks;       /* in a row, at a client that is for another one to take */
    uint32_t grant, left; /* clients taken though they are, since the others are held up */
    uint64_t rested;      /* the turn in which listeners were looked at again */
};

struct mux_loop {
    mux_backend *backend;
    const struct mux_verb_ops *const *verbs; /* by enum mux_verb */
    mux_options options;
    mux_slots slots;
    mux_pool pool;
    mux_wheel wheels[MUX_LOST - MUX_OPEN]; /* by state: open, closing, lingering */
    mux_batch batch;
    char *scratch; /* what a verb receives into */
    struct mux_gather *gather;
    size_t scratch_size;
    uint32_t half_closed_first, half_closed_last; /* verb_relay.c: the earliest first */
    uint32_t resting;   /* listeners that rest */
    int64_t rest_until; /* after a failed accept, or for another worker; 0: neither */
    struct mux_balance balance;
    int64_t now;
    int64_t told_at; /* the last wait: what had happened by then is known, or about to be handled */
    mux_stats *stats;
    bool woken;
    bool draining;   /* each unseen connection that ends is to be noticed */
    bool room;       /* one has ended: a listener at the cap may go on */
    struct mux_rates *rates;  /* rate.h; NULL: nobody has asked for one */
    struct mux_mover *movers; /* moved.h: whom joined pairs go to */
    struct mux_joined *joined; /* verb_relay.c: pairs that may go there, by their first sides */
    uint32_t joined_first, joined_count, joined_room; /* joined[joined_first..joined_count), the oldest first */
    int life;        /* atomic: enum mux_life */
    uintptr_t owner; /* atomic: the thread that polled last; 0: none has */
    unsigned forks;  /* of this process when it was made */
};

/* The connection of this name; NULL: its life is over, or there is no loop any more. */
static inline mux_slot *mux_loop_find(const mux_loop *loop, uint32_t index, uint32_t generation)
{
    mux_slot *slot = loop ? mux_slots_find(&loop->slots, index, generation) : NULL;
    return slot && slot->state != MUX_LISTENER ? slot : NULL;
}

/* Whether another thread runs the loop: what it does meanwhile is not to be disturbed. */
static inline bool mux_loop_foreign(mux_loop *loop)
{
    uintptr_t owner = loop ? __atomic_load_n(&loop->owner, __ATOMIC_RELAXED) : 0;
    return owner && owner != mux_sys_thread();
}

/* What begins each function that Python calls: the connection of that name, in the loop's own thread. */
#define FIND(loop, index, generation)                                                              \
    if (mux_loop_foreign(loop))                                                                    \
        return -EPERM;                                                                             \
    mux_slot *slot = mux_loop_find(loop, index, generation);                                       \
    if (!slot)                                                                                     \
        return -ESTALE

/* The same where a mover may have the connection (moved.h): there is nothing to be done here, then. */
#define FIND_HERE(loop, index, generation)                                                         \
    FIND(loop, index, generation);                                                                 \
    if (slot->state == MUX_MOVED)                                                                  \
        return 0

/* Whether a connection, or the other side of its pair, has bytes that only a rate keeps back. */
static inline bool mux_loop_waits(const mux_loop *loop, const mux_slot *slot)
{
    const mux_slot *peer = slot->peer != MUX_NONE ? mux_slots_at(&loop->slots, slot->peer) : slot;
    return (slot->hold | peer->hold) & MUX_HOLD_RATE;
}

/* Python was at work since the last wait, perhaps for long: what moves now moves now. Without an idle
 * deadline nobody would ask. */
static inline void mux_loop_look(mux_loop *loop)
{
    if (loop->options.idle)
        loop->now = mux_sys_now();
}

#endif
