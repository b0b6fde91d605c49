/* What the files of the loop share: its fields, and the four things that happen to a connection. */
#ifndef MUX_LOOP_INTERNAL_H
#define MUX_LOOP_INTERNAL_H

#include "loop.h"

/* One event for every two connections of a wait (backend_epoll.c: 512) is seldom reached; a full batch
 * only means one more return. */
#define MUX_EVENTS 1024
#define MUX_EVENTS_SPARE 4 /* what one connection may add at once: drained, data, EOF, and one to spare */
/* Bytes of one batch: a message from each of 512 connections, or four large receives; it stays in L2. */
#define MUX_ARENA (256 * 1024)
#define MUX_ARENA_LEAST 4096 /* below that a receive is not worth its call: the batch is full */

/* Bytes that a relay receives at once. */
#define MUX_RELAY_CHUNK (256 * 1024)

struct mux_loop {
    mux_backend *backend;
    mux_options options;
    mux_slots slots;
    mux_pool pool;
    mux_wheel wheel;
    mux_event *events;
    uint32_t count; /* of this batch's events */
    uint32_t batch; /* serial number */
    char *arena;
    uint32_t used;
    char *scratch; /* what a verb receives into */
    uint32_t lost_first, lost_last; /* lost connections that Python has to hear of, in order */
    uint32_t resting;               /* listeners that rest */
    uint32_t half_first, half_last; /* relay.c: ended before their peers, the earliest first */
    int64_t rest_until;             /* after a failed accept; 0: none failed */
    int64_t now;
    mux_stats *stats;
    bool woken;
    bool draining;  /* each unseen connection that ends is to be noticed */
    int polling;    /* atomic */
    int free_asked; /* atomic */
    int pid;
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

mux_event *mux_event_add(mux_loop *loop, uint32_t slot, enum mux_event_kind kind, int32_t value);
mux_slot *mux_slot_open(mux_loop *loop, int handle, int verb, bool seen); /* NULL: no memory */
int64_t mux_slot_put(mux_loop *loop, mux_slot *slot, const void *data, size_t size); /* queued */
void mux_slot_lost(mux_loop *loop, mux_slot *slot, int32_t error);
void mux_slot_finish(mux_loop *loop, mux_slot *slot); /* release the handle, free the slot */
void mux_slot_close(mux_loop *loop, mux_slot *slot);
void mux_slot_hold(mux_loop *loop, mux_slot *slot, uint8_t reason);
void mux_slot_unhold(mux_loop *loop, mux_slot *slot, uint8_t reason);
void mux_listeners_resume(mux_loop *loop);

#endif
