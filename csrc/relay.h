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
#ifndef MUX_RELAY_H
#define MUX_RELAY_H

#include "loop_internal.h"

mux_slot *mux_relay_peer(mux_loop *loop, const mux_slot *slot); /* NULL: it has none (any more) */
void mux_relay_received(mux_loop *loop, mux_slot *slot, const char *buffer, size_t size);
void mux_relay_eof(mux_loop *loop, mux_slot *slot);
void mux_relay_sent(mux_loop *loop, mux_slot *slot);    /* of the queue; time is counted for both */
void mux_relay_choked(mux_loop *loop, mux_slot *slot);  /* more is queued for it than its high mark */
void mux_relay_relieved(mux_loop *loop, mux_slot *slot);
void mux_relay_emptied(mux_loop *loop, mux_slot *slot);
mux_slot *mux_relay_part(mux_loop *loop, mux_slot *slot); /* it is lost: its peer until now, or NULL */
void mux_relay_orphaned(mux_loop *loop, mux_slot *peer, int32_t error);
void mux_relay_overdue(mux_loop *loop, uint32_t *looks); /* keep the deadline after the first EOF */
int64_t mux_relay_due(const mux_loop *loop);

#endif
