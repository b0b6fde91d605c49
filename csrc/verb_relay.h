/* The relay verb: two connections whose bytes go to each other, until both directions have ended.
 *
 * Invariants:
 * - Under MUX_VERB_RELAY slot->peer names the other side, which names this one, or is MUX_NONE: then the
 *   other side is gone, and this one only sends what it has queued.
 * - What is queued for one side above its high-water mark holds the reading of the other: a direction
 *   takes at most the mark and one receive of memory.
 * - A direction ends when its source has; its sink is sent EOF once all is sent. When both have ended and
 *   both queues are empty, both connections end.
 * - A connection that fails takes its peer with it: an error or a deadline as a reset, an abort without.
 */
#ifndef MUX_VERB_RELAY_H
#define MUX_VERB_RELAY_H

#include "verb.h"

void mux_relay_overdue(mux_loop *loop, uint32_t *looks); /* keep the deadline after the first EOF */
int64_t mux_relay_due(const mux_loop *loop);
mux_slot *mux_relay_split(mux_loop *loop, mux_slot *slot); /* from its peer, which is returned; NULL: it has none */

#endif
