/* The loop: turn after turn without Python, until Python has something to do.
 *
 * Pull, not push: Python calls mux_loop_poll, which returns a bounded batch of events in one array that
 * stays where it is; C never calls Python. Everything runs in one thread, that which polls: the others are
 * told -EPERM. They may write to the wake descriptor, read the counters and ask for the loop's end; what they
 * share is guarded by that alone, with the GIL and without it.
 *
 * Invariants:
 * - The deadline and the wake descriptor are looked at every turn, also when the wait never blocks.
 * - A batch's events and bytes are valid until the next poll.
 * - At most one MUX_EV_DATA a connection and batch; MUX_EV_LOST is a connection's last event. Its slot, and its
 *   handle, stay until mux_release, and longer if it lingers, so nothing in a batch can name a later
 *   connection.
 * - A connection that Python does not see (`seen` false) causes no event, and ends in C.
 * - Functions that name a slot return -ESTALE if that life is over: there is nothing left to do.
 */
#ifndef MUX_LOOP_H
#define MUX_LOOP_H

#include <stdbool.h>
#include <stdint.h>

#include "backend.h"
#include "batch.h"
#include "options.h"

/* NULL: *failed names the call that failed, *error is its errno. */
mux_loop *mux_loop_new(const mux_options *options, const char **failed, int *error);
/* The same on a backend that the caller makes afterwards, and that begins as a copy of mux_loop_host(). */
mux_loop *mux_loop_bare(const mux_options *options);
mux_backend mux_loop_host(mux_loop *loop);
void mux_loop_set_backend(mux_loop *loop, mux_backend *backend);
/* Ends every connection without events. During a poll it is done when the poll returns. */
void mux_loop_free(mux_loop *loop);

/* Count there from now on; before the first poll. It outlives the loop. */
void mux_loop_count_in(mux_loop *loop, mux_stats *stats);
/* Leave clients to whoever has fewer of them: `count` cells of `size` bytes, each of which begins with what a
 * worker's loop counts, this one's among them. They outlive the loop. */
void mux_loop_balance(mux_loop *loop, const char *cells, uint32_t count, uint32_t size);

/* Serve until there are events, the wake descriptor was written to, or `deadline` (ns, CLOCK_MONOTONIC;
 * INT64_MAX: none) has passed. Returns the number of events, or -errno; -ECHILD: this process is a fork
 * of the one that made the loop. */
int mux_loop_poll(mux_loop *loop, int64_t deadline);
/* The same after mux_send_batch: one crossing for both. */
int mux_loop_send_poll(mux_loop *loop, const char *data, size_t size, int64_t deadline);
/* For a loop inside another one: what that watches (level-triggered), or -errno, which includes that nothing can
 * be watched; and when a poll has something to do that this does not show: ns, CLOCK_MONOTONIC; 0: now, and the
 * descriptor may be another by then; INT64_MAX: never. Both are asked between two polls. */
int mux_loop_fd(mux_loop *loop);
int64_t mux_loop_due(mux_loop *loop);
const mux_event *mux_loop_events(const mux_loop *loop);
uint32_t mux_loop_events_cap(const mux_loop *loop);
const char *mux_loop_arena(const mux_loop *loop);
uint32_t mux_loop_arena_size(const mux_loop *loop);

/* The slot's index, or -errno. The handle is the loop's from then on, if it succeeds. A listener's stays
 * the caller's. */
int64_t mux_listen(mux_loop *loop, int handle, int verb, int seen);
int64_t mux_adopt(mux_loop *loop, int handle, int verb, int seen, uint32_t *generation);
int mux_unlisten(mux_loop *loop, uint32_t slot);

/* How much is queued afterwards, or -errno. A send that fails is told by MUX_EV_LOST. */
int64_t mux_send(mux_loop *loop, uint32_t slot, uint32_t generation, const void *data, size_t size);
#define MUX_WRITES 4096 /* in one crossing: 20 messages to each of 200 clients */

/* Many small writes in one crossing, in the form that gather.h tells of. Returns how many pairs of
 * (slot, queued) stand at mux_loop_left: of those that have something queued now; or -errno. */
int mux_send_batch(mux_loop *loop, const char *data, size_t size);
const uint32_t *mux_loop_left(const mux_loop *loop);
int64_t mux_queued(mux_loop *loop, uint32_t slot, uint32_t generation);
int mux_marks(mux_loop *loop, uint32_t slot, uint32_t generation, uint32_t high, uint32_t low);
int mux_hold(mux_loop *loop, uint32_t slot, uint32_t generation, int on);
/* A bucket for mux_limit: its number, or -errno. It is Python's until mux_rate_drop, and lives on while connections
 * count against it. Bytes a second, from 1; bytes, from 1. */
int64_t mux_rate_new(mux_loop *loop, double per_second, double burst);
int mux_rate_change(mux_loop *loop, uint32_t rate, double per_second, double burst);
int mux_rate_drop(mux_loop *loop, uint32_t rate);
/* What it receives counts against these rates, and no others; it is not read while one of them is empty. -EINVAL: they
 * are more than six, or one of them is none; -EBUSY: a mover has the connection. */
int mux_limit(mux_loop *loop, uint32_t slot, uint32_t generation, const uint32_t *rates, uint32_t count);
/* Whether it, or its peer, has bytes that only a rate keeps back; 1 or 0, or -ESTALE. */
int mux_waits(mux_loop *loop, uint32_t slot, uint32_t generation);
int mux_write_eof(mux_loop *loop, uint32_t slot, uint32_t generation);
int mux_close(mux_loop *loop, uint32_t slot, uint32_t generation);
int mux_abort(mux_loop *loop, uint32_t slot, uint32_t generation, int reset); /* reset: RST, not FIN */
/* From now on the loop moves the bytes; `kept` are those received and not delivered: again, if there are
 * more. -EINVAL: it has another verb, or this one takes two connections (mux_relay). */
int mux_verb(mux_loop *loop, uint32_t slot, uint32_t generation, int verb, const void *kept,
             size_t size);
int mux_bytes(mux_loop *loop, uint32_t slot, uint32_t generation, uint64_t *in_out);
int mux_handle(mux_loop *loop, uint32_t slot, uint32_t generation); /* a descriptor, or -errno */
/* Its own address, as getsockname(2) writes it, into at most `size` bytes: its size, or -errno. */
int mux_name(mux_loop *loop, uint32_t slot, uint32_t generation, void *address, size_t size);
/* Connect to a socket address. The slot's index, or -errno; MUX_EV_CONNECTED follows if it succeeds. */
int64_t mux_connect(mux_loop *loop, const void *address, size_t size, uint32_t *generation);
/* Join two connections: every further byte of either goes to the other, after `to_peer` and `to_slot`.
 * -EINVAL: one of them is not open, is under a verb, or is the other. */
int mux_relay(mux_loop *loop, uint32_t slot, uint32_t generation, uint32_t peer, uint32_t peer_generation,
              const void *to_peer, size_t to_peer_size, const void *to_slot, size_t to_slot_size);
/* What a batch had of a connection before it was joined: bytes for its peer, or none: its EOF. */
int mux_relay_more(mux_loop *loop, uint32_t slot, uint32_t generation, const void *data, size_t size);
/* Python looks at a joined connection no longer. -EBUSY: this batch has an event of it. */
int mux_forget(mux_loop *loop, uint32_t slot, uint32_t generation);
/* Python will not serve this connection: it ends, and no event tells of it. */
int mux_refuse(mux_loop *loop, uint32_t slot, uint32_t generation);
/* Python is done with a lost connection: close its handle, free its slot; if it lingers, then. */
int mux_release(mux_loop *loop, uint32_t slot, uint32_t generation);
/* End what Python does not see: once sent (at_once 0), or now. Polls return at each such end. */
void mux_close_unseen(mux_loop *loop, int at_once);
/* End at most `most` that Python sees nothing of, their other sides included. With `moved`, a number for each of
 * mux_loop_slots that begins as 0, only those in which no byte has moved since it was given last. Returns how many of
 * them others had opened. From then on polls return at each end, as above. */
uint32_t mux_stop_unseen(mux_loop *loop, uint32_t most, uint64_t *moved);
uint32_t mux_loop_slots(const mux_loop *loop); /* that there may be */
/* Whether somebody else opened it, or that side of its pair that Python does not see; 1 or 0, or -ESTALE. */
int mux_is_client(mux_loop *loop, uint32_t slot, uint32_t generation);
/* What would be lost now of all that Python does not see: bytes queued, connections that linger. */
uint64_t mux_unsent(mux_loop *loop);

#endif
