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
#include "connection.h"

#include <errno.h>

#include "rate.h"
#include "verb.h"

mux_slot *mux_conn_open(mux_loop *loop, int handle, int verb, bool seen, int *failed)
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
    mux_conn_become(loop, slot, MUX_OPEN);
    MUX_COUNT(loop->stats->open, 1);
    MUX_COUNT(loop->stats->total, 1);
    return slot;
}

static mux_wheel *wheel_of(mux_loop *loop, int state)
{
    return state >= MUX_OPEN && state < MUX_LOST ? &loop->wheels[state - MUX_OPEN] : NULL;
}

void mux_conn_become(mux_loop *loop, mux_slot *slot, enum mux_state state)
{
    mux_wheel *before = wheel_of(loop, slot->state), *after = wheel_of(loop, state);
    if (before)
        mux_wheel_remove(before, slot);
    slot->state = (uint8_t)state;
    if (after)
        mux_wheel_add(after, slot);
}

void mux_conn_hold(mux_loop *loop, mux_slot *slot, uint8_t reason)
{
    if (slot->state > MUX_OPEN && reason != MUX_HOLD_EOF)
        return; /* what comes is dropped from now on: nobody is too slow for that */
    uint8_t before = slot->hold;
    slot->hold |= reason;
    if (!before)
        loop->backend->ops->interest(loop->backend, slot);
}

void mux_conn_unhold(mux_loop *loop, mux_slot *slot, uint8_t reason)
{
    uint8_t before = slot->hold;
    slot->hold &= (uint8_t)~reason;
    if (before & reason)
        slot->unread = true; /* nobody has looked meanwhile */
    if (before && !slot->hold)
        loop->backend->ops->interest(loop->backend, slot);
}

void mux_conn_choked(mux_loop *loop, mux_slot *slot)
{
    mux_conn_hold(loop, slot, MUX_HOLD_BACKLOG);
}

void mux_conn_relieved(mux_loop *loop, mux_slot *slot, bool relieved)
{
    if (relieved)
        mux_conn_unhold(loop, slot, MUX_HOLD_BACKLOG);
}

/* -- bytes go */

int64_t mux_conn_send(mux_loop *loop, mux_slot *slot, const void *data, size_t size)
{
    size_t sent = 0;
    if (slot->state != MUX_OPEN)
        return 0; /* a write of this turn, after the end */
    if (!size)
        return (int64_t)slot->queue.size; /* send(2) of nothing would be a system call for nothing */
    if (!slot->queue.size) { /* at once: most messages never see the queue */
        ssize_t taken = loop->backend->ops->send(loop->backend, slot, data, size);
        if (taken < 0) {
            mux_conn_end(loop, slot, (int32_t)-taken);
            return 0;
        }
        sent = (size_t)taken;
        MUX_COUNT(slot->bytes_out, sent);
        slot->moved_at = sent ? loop->now : slot->moved_at;
        MUX_COUNT(loop->stats->bytes_out, sent);
        if (sent == size)
            return 0;
    }
    bool first = !slot->queue.size;
    if (mux_sendq_append(&slot->queue, &loop->pool, (const char *)data + sent, size - sent)) {
        mux_conn_end(loop, slot, ENOMEM);
        return 0;
    }
    if (slot->queue.size > slot->high)
        slot->choked = true;
    if (first)
        loop->backend->ops->interest(loop->backend, slot);
    const mux_verb_ops *verb = mux_verb_of(loop, slot);
    if (slot->choked && verb->choked)
        verb->choked(loop, slot);
    return (int64_t)slot->queue.size;
}

/* The last byte of a connection that was closed has gone. */
static void finish(mux_loop *loop, mux_slot *slot)
{
    const mux_backend_ops *ops = loop->backend->ops;
    const mux_verb_ops *verb = mux_verb_of(loop, slot);
    if (slot->unread && !(slot->hold & MUX_HOLD_EOF) && loop->options.linger) {
        int failed = ops->shutdown_write(loop->backend, slot);
        if (failed && failed != -ENOTCONN) { /* that one: both directions have ended, and nothing is unread */
            mux_conn_end(loop, slot, -failed);
            return;
        }
        if (!failed && ops->unacknowledged(loop->backend, slot)) {
            if (verb->finished)
                verb->finished(loop, slot);
            slot->moved_at = loop->now = mux_sys_now();
            slot->linger_until = loop->now + loop->options.linger;
            mux_conn_become(loop, slot, MUX_LINGERING);
            ops->interest(loop->backend, slot);
            mux_batch_ended(&loop->batch, &loop->slots, slot);
            return;
        }
    }
    if (verb->finished)
        verb->finished(loop, slot);
    mux_conn_end(loop, slot, 0);
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
            mux_conn_end(loop, slot, -failed);
            return;
        }
    }
    const mux_verb_ops *verb = mux_verb_of(loop, slot);
    if (verb->emptied)
        verb->emptied(loop, slot);
}

void mux_on_sent(mux_loop *loop, mux_slot *slot, ssize_t size)
{
    if (size < 0) {
        mux_conn_end(loop, slot, (int32_t)-size);
        return;
    }
    slot->moved_at = loop->now;
    MUX_COUNT(slot->bytes_out, size);
    MUX_COUNT(loop->stats->bytes_out, size);
    mux_sendq_sent(&slot->queue, &loop->pool, (size_t)size);
    bool relieved = slot->choked && slot->queue.size <= slot->low;
    if (relieved)
        slot->choked = false;
    const mux_verb_ops *verb = mux_verb_of(loop, slot);
    if (verb->sent)
        verb->sent(loop, slot, relieved);
    if (!slot->queue.size)
        emptied(loop, slot);
}

/* -- bytes come */

/* How much the batch takes of this connection now. */
static size_t room_in_batch(const mux_loop *loop, const mux_slot *slot)
{
    if (slot->delivered == loop->batch.serial || mux_batch_full(&loop->batch))
        return 0;
    size_t left = MUX_ARENA - loop->batch.used;
    return left < loop->options.read_chunk ? left : loop->options.read_chunk;
}

/* How much its rates let it receive; nothing: it is held until it has its turn. */
static size_t room_in_rates(mux_loop *loop, mux_slot *slot, size_t size)
{
    size_t room = mux_rates_room(loop->rates, slot->index, size, loop->now);
    if (!room)
        mux_conn_hold(loop, slot, MUX_HOLD_RATE);
    return room;
}

/* They have no say in what is dropped, and none in who has ended. */
static void leave_rates(mux_loop *loop, const mux_slot *slot)
{
    if (loop->rates)
        mux_rates_forget(loop->rates, slot->index);
}

bool mux_on_room(mux_loop *loop, mux_slot *slot, mux_room *room)
{
    const mux_verb_ops *verb = mux_verb_of(loop, slot);
    room->drop = slot->state != MUX_OPEN || verb->into == MUX_INTO_NOTHING;
    if (room->drop || verb->into == MUX_INTO_SCRATCH) {
        room->to = loop->scratch;
        room->size = room->drop || verb->large ? loop->scratch_size : loop->options.read_chunk;
    } else {
        mux_batch_align(&loop->batch);
        room->to = loop->batch.arena + loop->batch.used;
        room->size = room_in_batch(loop, slot);
    }
    if (loop->rates && room->size)
        room->size = room_in_rates(loop, slot, room->size);
    return room->size > 0;
}

static void eof(mux_loop *loop, mux_slot *slot)
{
    slot->unread = false;
    mux_conn_hold(loop, slot, MUX_HOLD_EOF);
    if (slot->state == MUX_LINGERING)
        mux_conn_end(loop, slot, 0);
    if (slot->state == MUX_OPEN) /* else nobody asks any more */
        mux_verb_of(loop, slot)->ended(loop, slot);
}

bool mux_on_received(mux_loop *loop, mux_slot *slot, const char *bytes, ssize_t size, bool more)
{
    if (size < 0) {
        mux_conn_end(loop, slot, (int32_t)-size);
        return true;
    }
    if (slot->hold)
        return false;
    if (size == 0) {
        bool full = mux_batch_full(&loop->batch);
        if (!full)
            eof(loop, slot);
        return !full;
    }
    if (slot->state != MUX_OPEN) {
        slot->unread = true; /* who talks to a closed connection may go on */
        if (slot->state == MUX_LINGERING && !loop->backend->ops->unacknowledged(loop->backend, slot))
            mux_conn_end(loop, slot, 0);
        return true;
    }
    const mux_verb_ops *verb = mux_verb_of(loop, slot);
    /* what lies in its place had room there */
    if (verb->into == MUX_INTO_BATCH && bytes != loop->batch.arena + loop->batch.used &&
        (size_t)size > room_in_batch(loop, slot))
        return false;
    slot->unread = more;
    slot->moved_at = loop->now;
    MUX_COUNT(slot->bytes_in, size);
    MUX_COUNT(loop->stats->bytes_in, size);
    if (loop->rates) {
        mux_rates_spend(loop->rates, slot->index, (size_t)size);
        if (more) /* to wait now saves the event that would say so */
            (void)room_in_rates(loop, slot, 1);
    }
    if (verb->received)
        verb->received(loop, slot, bytes, (size_t)size);
    return true;
}

/* -- the end */

void mux_conn_close(mux_loop *loop, mux_slot *slot)
{
    if (slot->state != MUX_OPEN)
        return;
    leave_rates(loop, slot);
    mux_conn_unhold(loop, slot, MUX_HOLD_PYTHON | MUX_HOLD_BACKLOG | MUX_HOLD_RATE); /* what comes is dropped */
    slot->moved_at = loop->now = mux_sys_now();
    mux_conn_become(loop, slot, MUX_CLOSING);
    const mux_verb_ops *verb = mux_verb_of(loop, slot);
    if (verb->closed)
        verb->closed(loop, slot);
    if (slot->state == MUX_CLOSING && !slot->queue.size)
        finish(loop, slot);
}

void mux_conn_end(mux_loop *loop, mux_slot *slot, int32_t error)
{
    if (mux_slot_is_dead(slot))
        return;
    bool lingered = slot->state == MUX_LINGERING;
    leave_rates(loop, slot);
    slot->hold &= (uint8_t)~MUX_HOLD_RATE;
    mux_conn_become(loop, slot, MUX_LOST);
    loop->backend->ops->detach(loop->backend, slot);
    if (!lingered)
        slot->error = error;
    if (!lingered || (slot->told && !slot->seen))
        mux_batch_ended(&loop->batch, &loop->slots, slot);
    const mux_verb_ops *verb = mux_verb_of(loop, slot);
    if (verb->lost)
        verb->lost(loop, slot, error);
}

void mux_conn_expire(mux_loop *loop, mux_slot *slot, int32_t error)
{
    /* a FIN would leave megabytes in the kernel for minutes, for just the peers that never read */
    slot->abortive = true;
    mux_conn_end(loop, slot, error);
}

void mux_conn_free(mux_loop *loop, mux_slot *slot)
{
    if (!(slot->hold & MUX_HOLD_GONE))
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
