/* What a verb does with a connection's bytes: a table of functions, one for each thing that may happen.
 *
 * A new verb is a file that fills the table, and a line in verbs.c. NULL: nothing is to be done. The loop
 * keeps the slot's counters, deadlines and states; a verb says where the bytes go, and who waits for whom.
 */
#ifndef MUX_VERB_H
#define MUX_VERB_H

#include "loop_internal.h"

enum mux_into {
    MUX_INTO_BATCH,   /* for Python to read, as much as a receive takes; once a batch */
    MUX_INTO_SCRATCH, /* gone when received() returns */
    MUX_INTO_NOTHING  /* dropped, by the kernel if it can */
};

typedef struct mux_verb_ops {
    enum mux_into into;
    bool large; /* as much at once as the scratch holds */
    bool pairs; /* it takes two connections: it begins by a function of its own */
    void (*received)(mux_loop *loop, mux_slot *slot, const char *bytes, size_t size);
    void (*ended)(mux_loop *loop, mux_slot *slot); /* by the peer: EOF */
    void (*choked)(mux_loop *loop, mux_slot *slot); /* more is queued for it than its high-water mark */
    /* Some of the queue has gone; relieved: it was choked, and is at low water. */
    void (*sent)(mux_loop *loop, mux_slot *slot, bool relieved);
    void (*emptied)(mux_loop *loop, mux_slot *slot); /* nothing is queued any more */
    void (*closed)(mux_loop *loop, mux_slot *slot);  /* what is queued is still sent */
    void (*finished)(mux_loop *loop, mux_slot *slot); /* that was sent: it goes its own way from now on */
    void (*lost)(mux_loop *loop, mux_slot *slot, int32_t error);
} mux_verb_ops;

extern const mux_verb_ops mux_verb_python, mux_verb_echo, mux_verb_discard, mux_verb_relay;
extern const mux_verb_ops *const mux_verbs[MUX_VERBS];

static inline const mux_verb_ops *mux_verb_of(const mux_loop *loop, const mux_slot *slot)
{
    return loop->verbs[slot->verb];
}

/* Whether a connection can be given the verb by itself. */
static inline bool mux_verb_is_for_one(const mux_loop *loop, int verb)
{
    return verb >= 0 && verb < MUX_VERBS && !loop->verbs[verb]->pairs;
}

#endif
