/* What the files of the loop share: its fields, and what happens to a connection. */
#ifndef MUX_LOOP_INTERNAL_H
#define MUX_LOOP_INTERNAL_H

#include <errno.h>

#include "loop.h"
#include "syscalls.h"

/* Two events for each connection of a wait (backend_epoll.c: 512) are seldom reached; a full batch only
 * means one more return. */
#define MUX_EVENTS 1024
#define MUX_EVENTS_SPARE 4 /* what one connection may add at once: drained twice, then data or EOF; one more */
/* Bytes of one batch: a message from each of 512 connections, or four large receives; it stays in L2. */
#define MUX_ARENA (256 * 1024)
#define MUX_ARENA_LEAST 4096 /* below that a receive is not worth its call: the batch is full */

/* Bytes that a relay receives at once, and that are dropped at once. */
#define MUX_SCRATCH (256 * 1024)

/* Deadlines looked at in one turn: a thousand closes take about 3 ms, and others wait meanwhile. */
#define MUX_EXPIRIES 1024

enum mux_life { MUX_IDLE_LOOP, MUX_POLLING, MUX_FREE_ASKED };

struct mux_loop {
    mux_backend *backend;
    mux_options options;
    mux_slots slots;
    mux_pool pool;
    mux_wheel wheels[MUX_LOST - MUX_OPEN]; /* by state: open, closing, lingering */
    mux_event *events;
    uint32_t count; /* of this batch's events */
    uint32_t batch; /* serial number */
    char *arena;
    uint32_t used;
    char *scratch; /* what a verb receives into */
    struct mux_gather *gather;
    uint32_t lost_first, lost_last; /* those that have ended, in order: see bury() */
    uint32_t resting;               /* listeners that rest */
    uint32_t half_first, half_last; /* relay.c: ended before their peers, the earliest first */
    int64_t rest_until;             /* after a failed accept; 0: none failed */
    int64_t now;
    int64_t told_at; /* the last wait: what had happened by then is known, or about to be handled */
    mux_stats *stats;
    bool woken;
    bool draining;   /* each unseen connection that ends is to be noticed */
    bool room;       /* one has ended: a listener at the cap may go on */
    int life;        /* atomic: enum mux_life */
    uintptr_t owner; /* atomic: the thread that polled last; 0: none has */
    unsigned forks;  /* of this process when it was made */
};

/* Counters are read by other threads: stored in one piece, ordered against nothing. With 32 bits that
 * would take a library (libatomic); there a reader may meet one half of a carry. */
#if UINTPTR_MAX > UINT32_MAX
#define MUX_COUNT(field, more) __atomic_store_n(&(field), (field) + (uint64_t)(more), __ATOMIC_RELAXED)
#else
#define MUX_COUNT(field, more) ((field) += (uint64_t)(more))
#endif

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

/* Python was at work since the last wait, perhaps for long: what moves now moves now. Without an idle
 * deadline nobody would ask. */
static inline void mux_loop_look(mux_loop *loop)
{
    if (loop->options.idle)
        loop->now = mux_sys_now();
}

/* Bytes of the arena are a batch's; the next begin at a cache line, for which the kernel copies faster. */
static inline void mux_arena_use(mux_loop *loop, size_t size)
{
    loop->used = (loop->used + (uint32_t)size + 63) & ~63u;
}

mux_event *mux_event_add(mux_loop *loop, uint32_t slot, enum mux_event_kind kind, int32_t value);
void mux_lost_add(mux_loop *loop, mux_slot *slot);
/* A new connection; NULL: *failed says why, as -errno. */
mux_slot *mux_slot_open(mux_loop *loop, int handle, int verb, bool seen, int *failed);
void mux_slot_become(mux_loop *loop, mux_slot *slot, enum mux_state state); /* with that one's deadline */
int64_t mux_slot_put(mux_loop *loop, mux_slot *slot, const void *data, size_t size); /* queued */
void mux_slot_close(mux_loop *loop, mux_slot *slot);
void mux_slot_end(mux_loop *loop, mux_slot *slot, int32_t error); /* its protocol's part is over */
void mux_slot_expire(mux_loop *loop, mux_slot *slot, int32_t error); /* the same, with a reset */
void mux_slot_free(mux_loop *loop, mux_slot *slot);
void mux_slot_hold(mux_loop *loop, mux_slot *slot, uint8_t reason);
void mux_slot_unhold(mux_loop *loop, mux_slot *slot, uint8_t reason);
void mux_listeners_resume(mux_loop *loop);

#endif
