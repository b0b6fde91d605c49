/* Bytes a second: token buckets, who counts against them, and who waits for them, in order.
 *
 * A bucket holds at most `burst` bytes, and gains some with time. A receive takes no more than there is, so what comes
 * in any t seconds is at most rate * t + burst. Who finds less than a quantum waits: the lesser of half the burst, and
 * of what comes in a millisecond (epoll_wait(2) waits for no less) or a page, whichever is more; a receive of a few
 * bytes would not be worth its call.
 *
 * Invariants:
 * - Who waits has had an event: an idle connection is in no queue. It waits for one of its buckets at a time, at the
 *   end; who had its turn and found the bucket used up by others meanwhile waits at the front.
 * - Each turn is for a quantum, unless nobody else waits: so shares are alike, and nobody starves.
 * - A bucket that somebody waits for is in the heap, by the time at which the first of them may go on.
 * - What is kept of a connection lies at its slot's index, and is forgotten as its slot ends or is closed.
 * - A bucket lives while Python names it or a connection counts against it.
 */
#ifndef MUX_RATE_H
#define MUX_RATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define MUX_RATES_MOST 6 /* of one connection: its own, its upstream's, and two of each of two guards */

typedef struct mux_rates mux_rates;

mux_rates *mux_rates_open(void); /* NULL: no memory */
void mux_rates_close(mux_rates *rates);

/* A full bucket that the caller names from now on: its number, or -ENOMEM. */
int64_t mux_rates_add(mux_rates *rates, double per_second, double burst, int64_t now);
bool mux_rates_has(const mux_rates *rates, uint32_t which);
void mux_rates_change(mux_rates *rates, uint32_t which, double per_second, double burst, int64_t now);
void mux_rates_drop(mux_rates *rates, uint32_t which); /* the caller names it no longer */

/* Let what a slot receives count against these, and no others; 0 or -ENOMEM: nothing has changed. */
int mux_rates_limit(mux_rates *rates, uint32_t slot, const uint32_t *which, uint32_t count);
void mux_rates_forget(mux_rates *rates, uint32_t slot);
bool mux_rates_limits(const mux_rates *rates, uint32_t slot);

/* How much of `size` may be received; 0: nothing now, and the slot waits until mux_rates_next names it. */
size_t mux_rates_room(mux_rates *rates, uint32_t slot, size_t size, int64_t now);
void mux_rates_spend(mux_rates *rates, uint32_t slot, size_t size); /* so much was received */
uint32_t mux_rates_next(mux_rates *rates, int64_t now); /* a slot that has its turn; UINT32_MAX: none (any more) */
int64_t mux_rates_due(const mux_rates *rates);          /* ns; when one will; INT64_MAX: nobody waits */

#endif
