/* Deadlines: a wheel of buckets, each a list of the slots to look at when its time comes. There is a wheel
 * for each state that has a deadline: open (idle), closing, lingering; a slot is in its state's.
 *
 * Moving a byte only stores the time in the slot: no list is touched and no system call made. When a
 * bucket's time comes, a slot that has moved meanwhile goes to the bucket of its new deadline. A slot is
 * looked at about once per idle time-out, whatever it sends: the cost is the same for a busy connection
 * and a quiet one, and a million slots are a million looks per time-out, a bounded number in one turn.
 *
 * Invariants: a slot is in at most one bucket (wheel_at); the lists are doubly linked by index, so that
 * a connection that ends leaves in constant time.
 */
#ifndef MUX_WHEEL_H
#define MUX_WHEEL_H

#include "slots.h"

#define MUX_WHEEL_BUCKETS 64 /* a deadline is kept within 1/62 of the time-out */

typedef struct mux_wheel {
    mux_slots *slots;
    int64_t after; /* ns without a byte moving; 0: no deadlines */
    int64_t tick; /* ns between two buckets */
    int64_t next; /* when the next bucket is due */
    uint32_t at;  /* that bucket */
    uint32_t count;
    uint32_t heads[MUX_WHEEL_BUCKETS];
} mux_wheel;

void mux_wheel_open(mux_wheel *wheel, mux_slots *slots, int64_t after, int64_t now);
void mux_wheel_add(mux_wheel *wheel, mux_slot *slot);    /* by slot->moved_at */
void mux_wheel_remove(mux_wheel *wheel, mux_slot *slot); /* also if it is in none */
/* A slot whose deadline has passed, taken out of the wheel; NULL: none is left at this time, or the last of
 * `looks` slots was looked at: ask again. */
mux_slot *mux_wheel_expired(mux_wheel *wheel, int64_t now, uint32_t *looks);
int64_t mux_wheel_due(const mux_wheel *wheel); /* when to ask again; INT64_MAX: no need */

#endif
