/* What happens to a connection: bytes come, bytes go, it ends.
 *
 *   OPEN ── close ──► CLOSING ── all is sent ──► LINGERING ── the peer has it all, or 2 s ──►  LOST
 *     │                  └─────── nothing can be unread ──────────────────────────────────────►│
 *     └── an abort, an error, a deadline ─────────────────────────────────────────────────────►┘
 *
 * Why it lingers: a close(2) with unread bytes sends a reset (RFC 1122, 4.2.2.13), and what the peer has
 * not acknowledged by then is dropped, in the kernel's send queue too. So our FIN goes first, and what
 * comes is dropped until all has arrived. It costs nothing where nothing is unread: `unread` is what the last
 * receive knew.
 */
#include <errno.h>

#include "loop_internal.h"
#include "relay.h"

mux_slot *mux_slot_open(mux_loop *loop, int handle, int verb, bool seen, int *failed)
{
    mux_slot *slot = mux_slots_take(&loop->slots);
    *failed = -ENOMEM;
    if (!slot)
        return NULL;
    slot->handle = handle;
    slot->verb = (uint8_t)verb;
    slot->seen = seen;
    slot->high = loop->options.high;
    slot->low = loop->options.low;
    slot->moved_at = loop->now;
    slot->state = MUX_OPEN;
    *failed = loop->backend->ops->attach(loop->backend, slot);
    if (*failed) {
        mux_slots_give_back(&loop->slots, slot);
        return NULL;
    }
    mux_slot_become(loop, slot, MUX_OPEN);
    MUX_COUNT(loop->stats->open, 1);
    MUX_COUNT(loop->stats->total, 1);
    return slot;
}

static mux_wheel *wheel_of(mux_loop *loop, int state)
{
    return state >= MUX_OPEN && state < MUX_LOST ? &loop->wheels[state - MUX_OPEN] : NULL;
}

void mux_slot_become(mux_loop *loop, mux_slot *slot, enum mux_state state)
{
    mux_wheel *before = wheel_of(loop, slot->state), *after = wheel_of(loop, state);
    if (before)
        mux_wheel_remove(before, slot);
    slot->state = (uint8_t)state;
    if (after)
        mux_wheel_add(after, slot);
}

void mux_slot_hold(mux_loop *loop, mux_slot *slot, uint8_t reason)
{
    if (slot->state > MUX_OPEN && reason != MUX_HOLD_EOF)
        return; /* what comes is dropped from now on: nobody is too slow for that */
    uint8_t before = slot->hold;
    slot->hold |= reason;
    if (!before)
        loop->backend->ops->interest(loop->backend, slot);
}

void mux_slot_unhold(mux_loop *loop, mux_slot *slot, uint8_t reason)
{
    uint8_t before = slot->hold;
    slot->hold &= (uint8_t)~reason;
    if (before & reason)
        slot->unread = true; /* nobody has looked meanwhile */
    if (before && !slot->hold)
        loop->backend->ops->interest(loop->backend, slot);
}

/* -- bytes go */

int64_t mux_slot_put(mux_loop *loop, mux_slot *slot, const void *data, size_t size)
{
    size_t sent = 0;
    if (slot->state != MUX_OPEN)
        return 0; /* a write of this turn, after the end */
    if (!size)
        return (int64_t)slot->queue.size; /* send(2) of nothing would be a system call for nothing */
    if (!slot->queue.size) { /* at once: most messages never see the queue */
        ssize_t taken = loop->backend->ops->send(loop->backend, slot, data, size);
        if (taken < 0) {
            mux_slot_end(loop, slot, (int32_t)-taken);
            return 0;
        }
        sent = (size_t)taken;
        slot->bytes_out += sent;
        slot->moved_at = sent ? loop->now : slot->moved_at;
        MUX_COUNT(loop->stats->bytes_out, sent);
        if (sent == size)
            return 0;
    }
    bool first = !slot->queue.size;
    if (mux_sendq_append(&slot->queue, &loop->pool, (const char *)data + sent, size - sent)) {
        mux_slot_end(loop, slot, ENOMEM);
        return 0;
    }
    if (slot->queue.size > slot->high)
        slot->choked = true;
    if (first)
        loop->backend->ops->interest(loop->backend, slot);
    if (slot->choked && slot->verb == MUX_VERB_RELAY)
        mux_relay_choked(loop, slot);
    else if (slot->choked && slot->verb)
        mux_slot_hold(loop, slot, MUX_HOLD_BACKLOG);
    return (int64_t)slot->queue.size;
}

/* The last byte of a connection that was closed has gone. */
static void finish(mux_loop *loop, mux_slot *slot)
{
    const mux_backend_ops *ops = loop->backend->ops;
    if (slot->unread && !(slot->hold & MUX_HOLD_EOF) && loop->options.linger) {
        int failed = ops->shutdown_write(loop->backend, slot);
        if (failed && failed != -ENOTCONN) { /* that one: both directions have ended, and nothing is unread */
            mux_slot_end(loop, slot, -failed);
            return;
        }
        if (!failed && ops->unacknowledged(loop->backend, slot)) {
            slot->moved_at = loop->now = mux_sys_now();
            mux_relay_part(loop, slot); /* its peer was closed as well, and goes its own way */
            slot->half_at = loop->now + loop->options.linger;
            mux_slot_become(loop, slot, MUX_LINGERING);
            ops->interest(loop->backend, slot);
            mux_lost_add(loop, slot);
            return;
        }
    }
    mux_slot_end(loop, slot, 0);
}

/* The queue has become empty: do what waited for it. */
static void emptied(mux_loop *loop, mux_slot *slot)
{
    if (slot->state == MUX_CLOSING) {
        finish(loop, slot);
        return;
    }
    if (slot->state != MUX_OPEN)
        return;
    loop->backend->ops->interest(loop->backend, slot);
    if (slot->eof_wanted) {
        int failed = loop->backend->ops->shutdown_write(loop->backend, slot);
        if (failed) {
            mux_slot_end(loop, slot, -failed);
            return;
        }
    }
    mux_relay_emptied(loop, slot);
}

void mux_on_sent(mux_loop *loop, mux_slot *slot, ssize_t size)
{
    if (size < 0) {
        mux_slot_end(loop, slot, (int32_t)-size);
        return;
    }
    slot->moved_at = loop->now;
    slot->bytes_out += (uint64_t)size;
    MUX_COUNT(loop->stats->bytes_out, size);
    mux_sendq_sent(&slot->queue, &loop->pool, (size_t)size);
    mux_relay_sent(loop, slot);
    bool relieved = slot->choked && slot->queue.size <= slot->low;
    if (relieved)
        slot->choked = false;
    if (slot->seen && !slot->verb && (relieved || !slot->queue.size))
        mux_event_add(loop, slot->index, MUX_EV_DRAINED, (int32_t)slot->queue.size);
    if (relieved && slot->verb == MUX_VERB_RELAY)
        mux_relay_relieved(loop, slot);
    else if (relieved)
        mux_slot_unhold(loop, slot, MUX_HOLD_BACKLOG);
    if (!slot->queue.size)
        emptied(loop, slot);
}

/* -- bytes come */

static void eof(mux_loop *loop, mux_slot *slot)
{
    slot->unread = false;
    mux_slot_hold(loop, slot, MUX_HOLD_EOF);
    if (slot->state == MUX_LINGERING)
        mux_slot_end(loop, slot, 0);
    if (slot->state != MUX_OPEN)
        return; /* nobody asks any more */
    if (slot->verb == MUX_VERB_RELAY)
        mux_relay_eof(loop, slot);
    else if (slot->verb || !slot->seen)
        mux_slot_close(loop, slot); /* EOF is answered with EOF once all is sent */
    else
        mux_event_add(loop, slot->index, MUX_EV_EOF, 0);
}

void mux_on_received(mux_loop *loop, mux_slot *slot, const char *buffer, ssize_t size, bool more)
{
    if (size < 0) {
        mux_slot_end(loop, slot, (int32_t)-size);
        return;
    }
    if (size == 0) {
        eof(loop, slot);
        return;
    }
    slot->unread = more;
    if (slot->state != MUX_OPEN) {
        slot->unread = true; /* who talks to a closed connection may go on */
        if (slot->state == MUX_LINGERING && !loop->backend->ops->unacknowledged(loop->backend, slot))
            mux_slot_end(loop, slot, 0);
        return;
    }
    slot->moved_at = loop->now;
    slot->bytes_in += (uint64_t)size;
    MUX_COUNT(loop->stats->bytes_in, size);
    if (slot->verb == MUX_VERB_ECHO) {
        mux_slot_put(loop, slot, buffer, (size_t)size);
    } else if (slot->verb == MUX_VERB_RELAY) {
        mux_relay_received(loop, slot, buffer, (size_t)size);
    } else if (slot->verb == MUX_VERB_NONE) {
        mux_event *event = mux_event_add(loop, slot->index, MUX_EV_DATA, (int32_t)size);
        event->data = (uint32_t)(buffer - loop->arena);
        mux_arena_use(loop, (size_t)size);
        slot->delivered = loop->batch; /* at most one a batch: mux_on_buffer asks */
    }
}

/* -- the end */

void mux_slot_close(mux_loop *loop, mux_slot *slot)
{
    if (slot->state != MUX_OPEN)
        return;
    mux_slot_unhold(loop, slot, MUX_HOLD_PYTHON | MUX_HOLD_BACKLOG); /* what comes is dropped */
    slot->moved_at = loop->now = mux_sys_now();
    mux_slot_become(loop, slot, MUX_CLOSING);
    mux_slot *peer = mux_relay_peer(loop, slot);
    if (peer)
        mux_slot_close(loop, peer);
    if (slot->state == MUX_CLOSING && !slot->queue.size)
        finish(loop, slot);
}

void mux_slot_end(mux_loop *loop, mux_slot *slot, int32_t error)
{
    if (slot->state == MUX_LOST || slot->state == MUX_FREE)
        return;
    bool lingered = slot->state == MUX_LINGERING;
    mux_slot *peer = mux_relay_part(loop, slot);
    mux_slot_become(loop, slot, MUX_LOST);
    mux_sendq_clear(&slot->queue, &loop->pool);
    loop->backend->ops->detach(loop->backend, slot);
    if (!lingered)
        slot->error = error;
    if (!lingered || (slot->told && !slot->seen))
        mux_lost_add(loop, slot);
    if (peer)
        mux_relay_orphaned(loop, peer, error);
}

void mux_slot_expire(mux_loop *loop, mux_slot *slot, int32_t error)
{
    /* a FIN would leave megabytes in the kernel for minutes, for just the peers that never read */
    slot->abortive = true;
    mux_slot_end(loop, slot, error);
}

void mux_slot_free(mux_loop *loop, mux_slot *slot)
{
    loop->backend->ops->release(loop->backend, slot);
    if (slot->outgoing)
        MUX_COUNT(loop->stats->outgoing, -1);
    else
        MUX_COUNT(loop->stats->open, -1);
    mux_slots_give_back(&loop->slots, slot);
    loop->room = true;
    if (loop->draining)
        loop->woken = true;
}
