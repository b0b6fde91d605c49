/* What one poll hands to Python: events, and the bytes that they tell of, both bounded.
 *
 * Invariants:
 * - Events and bytes stay where they are until the next batch begins.
 * - Whoever adds asks for room first (mux_batch_full), which is enough for what one connection may add at
 *   once. Nothing is ever written past the end.
 * - Those that have ended wait here, in the order in which they did, and are told last: a batch that is full
 *   leaves them to the next.
 */
#ifndef MUX_BATCH_H
#define MUX_BATCH_H

#include <stdlib.h>
#include <string.h>

#include "slots.h"

/* Two events for each connection of a wait (512 under epoll) are seldom reached; a full batch only
 * means one more return. */
#define MUX_EVENTS 1024
#define MUX_EVENTS_SPARE 4 /* what one connection may add at once: drained twice, then data or EOF; one more */
/* Bytes of one batch: a message from each of 512 connections, or four large receives; it stays in L2. */
#define MUX_ARENA (256 * 1024)
#define MUX_ARENA_LEAST 4096 /* below that a receive is not worth its call: the batch is full */

enum mux_event_kind {
    MUX_EV_ACCEPTED = 1, /* value: generation; data: struct mux_accepted, then the peer's address */
    MUX_EV_DATA,         /* value: how many bytes; data: they */
    MUX_EV_EOF,
    MUX_EV_DRAINED, /* value: bytes still queued: at most the low-water mark, or none */
    MUX_EV_LOST,    /* value: errno, perhaps with MUX_PASSED_ON; 0, or one of those below; data: four uint64_t:
                     * the bytes in and out of its life; whether it ended a relay first: not 0; and when its
                     * peer's first byte came: 100 us of CLOCK_MONOTONIC, the last 32 bits; 0: none has */
    MUX_EV_TROUBLE, /* of a listener: accept failed, value: errno; told once an episode */
    MUX_EV_CONNECTED, /* value: errno, or 0: it is open, and held until Python lets it go */
    MUX_EV_QUEUED     /* a batch's first: value: what mux_send_batch would have returned */
};

#define MUX_IDLE (-1)        /* the idle deadline has passed */
#define MUX_HALF_CLOSED (-2) /* a relay's other direction went on for too long */
#define MUX_NOT_TAKEN (-3)   /* closed, and the peer took nothing of what was queued for too long */
#define MUX_PASSED_ON 0x10000 /* beside an errno: it was the relay's other side that failed */

typedef struct mux_event {
    uint32_t slot;
    uint32_t kind;
    int32_t value;
    uint32_t data; /* where in the arena */
} mux_event;

struct mux_accepted {
    uint32_t listener; /* its slot */
    uint32_t size;     /* of the address that follows; 0: it is not known */
};

typedef struct mux_batch {
    mux_event *events;
    char *arena;
    uint32_t count;  /* events */
    uint32_t used;   /* bytes of the arena */
    uint32_t serial; /* never 0, which a new slot says */
    uint32_t ended_first, ended_last; /* slots, by their `next` */
} mux_batch;

int mux_batch_open(mux_batch *batch); /* 0 or -ENOMEM */
void mux_batch_close(mux_batch *batch);
void mux_batch_begin(mux_batch *batch); /* the one before is over; those that have ended stay */

static inline bool mux_batch_full(const mux_batch *batch)
{
    return batch->count + MUX_EVENTS_SPARE > MUX_EVENTS || batch->used + MUX_ARENA_LEAST > MUX_ARENA;
}

/* Let the next bytes begin at a cache line: the kernel copies faster to there. */
static inline void mux_batch_align(mux_batch *batch)
{
    batch->used = (batch->used + 63) & ~63u;
}

static inline void mux_batch_add(mux_batch *batch, uint32_t slot, enum mux_event_kind kind, int32_t value)
{
    if (batch->count == MUX_EVENTS)
        abort(); /* a backend that did not ask: better here than in somebody's memory */
    batch->events[batch->count++] =
        (mux_event){.slot = slot, .kind = kind, .value = value, .data = batch->used};
}

/* The bytes of the event that was added last, or more of them. They may lie in their place already. */
static inline void mux_batch_bytes(mux_batch *batch, const void *bytes, size_t size)
{
    char *to = batch->arena + batch->used;
    if (bytes != to)
        memcpy(to, bytes, size);
    batch->used += (uint32_t)size;
}

void mux_batch_ended(mux_batch *batch, const mux_slots *slots, mux_slot *slot);

#endif
