/* Pairs that a mover has: what stays of them in the loop that joined them, and the queues between the two.
 *
 *   giving loop                                         mover: a loop in a thread of its own
 *     mux_relay ─► `stay` later: leave ─── inbox ─────►  attach both, mux_relay
 *     close, abort: ask ────────────────── inbox ─────►  close, abort
 *     MUX_EV_LOST ◄─ hear ◄─────────────── outbox ─────  both have ended
 *
 * Python knows a connection by its slot in the giving loop, and goes on to: under MUX_MOVED that is a place to ask
 * from, and the place that the end comes back to. A pair leaves between two batches, when nothing of it is left that
 * Python has yet to hear, and once it has lasted for `stay`: a move costs four system calls and two wake-ups, half of
 * what a connection costs that brings one message and goes. What the mover has to be given goes along in a mux_transit.
 *
 * Invariants:
 * - A slot is in one queue at most: who sets `queued` from 0 may push it. The end keeps it set: there is no ask after
 *   that, and one push into the outbox.
 * - From leave to hear the mover writes hold, error, the bytes and the mux_moved; the giving loop everything else.
 * - No lock, no wait: a push is one exchange. Who pushes into an empty queue wakes the other side.
 */
#ifndef MUX_MOVED_H
#define MUX_MOVED_H

#include "loop_internal.h"

enum { MUX_ASK_CLOSE = 1, MUX_ASK_ABORT = 2, MUX_ASK_RESET = 4 };

/* What goes along with a pair. */
typedef struct mux_transit {
    struct {
        mux_slot *slot; /* of the giving loop; NULL: none stays */
        int handle;
        mux_sendq queue;
        uint64_t in, out;
        uint32_t high, low, answered;
        bool ended_first; /* that is told before its end is heard again, maybe with the other's */
    } sides[2];
} mux_transit;

typedef struct mux_mover {
    struct mux_mover *next; /* of the giving loop's */
    mux_loop *loop;
    mux_slot **origins; /* by slot of the mover's loop: whose end it is */
    mux_slot *inbox, *outbox; /* atomic: stacks */
    int wake, wake_giver;     /* what to write to */
    uint32_t pairs;           /* atomic: how many it has */
    bool stopped;             /* atomic: it is asked to end */
    bool draining;            /* atomic: the giving loop waits for the last to be gone */
    bool dead;                /* atomic: it takes no more */
} mux_mover;

/* In the giving loop's thread. */
void mux_moved_leave(mux_loop *loop);      /* all pairs that are due */
int64_t mux_moved_due(const mux_loop *loop); /* when the next is; INT64_MAX: there is none */
void mux_moved_hear(mux_loop *loop);  /* of those that have ended */
void mux_moved_ask(mux_slot *slot, uint8_t what);
void mux_moved_bytes(const mux_slot *slot, uint64_t *in_out);

/* In either. */
void mux_moved_push(mux_slot **queue, mux_slot *slot, int wake);
mux_slot *mux_moved_pop_all(mux_slot **queue);            /* the first that was pushed comes first, by moved.next */
void mux_moved_return(mux_mover *mover, mux_slot *slot); /* all that it stands for has ended */
void mux_moved_fail(mux_mover *mover, mux_slot *slot, int error); /* a pair that is going: both sides have ended */
/* Return what is in the inbox of a mover that takes no more: it has ended with this error. */
void mux_moved_refuse(mux_mover *mover, mux_pool *pool, int error);

#endif
