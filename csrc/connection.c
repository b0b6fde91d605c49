/* What happens to a connection: bytes come, bytes go, it ends. */
#include <errno.h>

#include "loop_internal.h"
#include "relay.h"

static void emptied(mux_loop *loop, mux_slot *slot);

mux_slot *mux_slot_open(mux_loop *loop, int handle, int verb, bool seen)
{
    mux_slot *slot = mux_slots_take(&loop->slots);
    if (!slot) {
        errno = ENOMEM;
        return NULL;
    }
    slot->handle = handle;
    slot->state = MUX_OPEN;
    slot->verb = (uint8_t)verb;
    slot->seen = seen;
    slot->high = loop->options.high;
    slot->low = loop->options.low;
    slot->moved_at = loop->now;
    int failed = loop->backend->ops->attach(loop->backend, slot);
    if (failed) {
        mux_slots_give_back(&loop->slots, slot);
        errno = -failed;
        return NULL;
    }
    mux_wheel_add(&loop->wheel, slot);
    MUX_COUNT(loop->stats->open, 1);
    MUX_COUNT(loop->stats->total, 1);
    return slot;
}

void mux_slot_hold(mux_loop *loop, mux_slot *slot, uint8_t reason)
{
    uint8_t before = slot->hold;
    slot->hold |= reason;
    if (!before)
        loop->backend->ops->interest(loop->backend, slot);
}

void mux_slot_unhold(mux_loop *loop, mux_slot *slot, uint8_t reason)
{
    uint8_t before = slot->hold;
    slot->hold &= (uint8_t)~reason;
    if (before && !slot->hold)
        loop->backend->ops->interest(loop->backend, slot);
}

int64_t mux_slot_put(mux_loop *loop, mux_slot *slot, const void *data, size_t size)
{
    size_t sent = 0;
    if (slot->state == MUX_LOST || slot->state == MUX_FREE)
        return 0; /* a write of this turn, after the end */
    if (!size)
        return (int64_t)slot->queue.size; /* send(2) of nothing would be a system call for nothing */
    if (!slot->queue.size) { /* at once: most messages never see the queue */
        ssize_t taken = loop->backend->ops->send(loop->backend, slot, data, size);
        if (taken < 0) {
            mux_slot_lost(loop, slot, (int32_t)-taken);
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
        mux_slot_lost(loop, slot, ENOMEM);
        return 0;
    }
    if (slot->queue.size > slot->high)
        slot->choked = true;
    if (slot->choked && slot->verb == MUX_VERB_RELAY)
        mux_relay_choked(loop, slot);
    else if (slot->choked && slot->verb)
        slot->hold |= MUX_HOLD_BACKLOG;
    if ((first || slot->hold & MUX_HOLD_BACKLOG) && slot->state != MUX_LOST && slot->state != MUX_FREE)
        loop->backend->ops->interest(loop->backend, slot);
    return (int64_t)slot->queue.size;
}

void mux_on_received(mux_loop *loop, mux_slot *slot, const char *buffer, ssize_t size)
{
    if (size < 0) {
        mux_slot_lost(loop, slot, (int32_t)-size);
        return;
    }
    if (size == 0) {
        mux_slot_hold(loop, slot, MUX_HOLD_EOF);
        if (slot->verb == MUX_VERB_RELAY)
            mux_relay_eof(loop, slot);
        else if (slot->verb || !slot->seen)
            mux_slot_close(loop, slot); /* EOF is answered with EOF once all is sent */
        else
            mux_event_add(loop, slot->index, MUX_EV_EOF, 0);
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
        loop->used += (uint32_t)size;
        slot->delivered = loop->batch; /* at most one a batch: mux_on_buffer asks */
    }
}

void mux_on_sent(mux_loop *loop, mux_slot *slot, ssize_t size)
{
    if (size < 0) {
        mux_slot_lost(loop, slot, (int32_t)-size);
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
    else if (relieved && slot->hold & MUX_HOLD_BACKLOG)
        mux_slot_unhold(loop, slot, MUX_HOLD_BACKLOG);
    if (!slot->queue.size)
        emptied(loop, slot);
}

/* The queue has become empty: do what waited for it. */
static void emptied(mux_loop *loop, mux_slot *slot)
{
    if (slot->state == MUX_CLOSING) {
        mux_slot_lost(loop, slot, 0);
        return;
    }
    if (slot->state != MUX_OPEN)
        return;
    loop->backend->ops->interest(loop->backend, slot);
    if (slot->eof_wanted && slot->state == MUX_OPEN) {
        int failed = loop->backend->ops->shutdown_write(loop->backend, slot);
        if (failed) {
            mux_slot_lost(loop, slot, (int32_t)-failed);
            return;
        }
    }
    mux_relay_emptied(loop, slot);
}

void mux_slot_close(mux_loop *loop, mux_slot *slot)
{
    if (slot->state != MUX_OPEN)
        return;
    slot->state = MUX_CLOSING;
    mux_slot *peer = mux_relay_peer(loop, slot);
    if (peer)
        mux_slot_close(loop, peer);
    if (slot->queue.size)
        mux_slot_hold(loop, slot, MUX_HOLD_CLOSING);
    else
        mux_slot_lost(loop, slot, 0);
}

static void tell_python(mux_loop *loop, mux_slot *slot)
{
    slot->next = MUX_NONE;
    if (loop->lost_first == MUX_NONE)
        loop->lost_first = slot->index;
    else
        mux_slots_at(&loop->slots, loop->lost_last)->next = slot->index;
    loop->lost_last = slot->index;
}

static void count_error(mux_loop *loop, int32_t error)
{
    const int last = (int)(sizeof loop->stats->errors / sizeof *loop->stats->errors) - 1;
    const int number = error > 0 ? error & ~MUX_PASSED_ON : 0;
    if (error == MUX_IDLE)
        MUX_COUNT(loop->stats->idle, 1);
    else if (error == MUX_HALF_CLOSED)
        MUX_COUNT(loop->stats->half_closed, 1);
    else if (number)
        MUX_COUNT(loop->stats->errors[number < last ? number : last], 1);
}

void mux_slot_lost(mux_loop *loop, mux_slot *slot, int32_t error)
{
    if (slot->state == MUX_LOST || slot->state == MUX_FREE)
        return;
    mux_slot *peer = mux_relay_part(loop, slot);
    slot->state = MUX_LOST;
    slot->hold |= MUX_HOLD_CLOSING;
    slot->error = error;
    mux_sendq_clear(&slot->queue, &loop->pool);
    mux_wheel_remove(&loop->wheel, slot);
    loop->backend->ops->detach(loop->backend, slot);
    if (slot->seen) {
        tell_python(loop, slot);
    } else {
        count_error(loop, error);
        mux_slot_finish(loop, slot);
    }
    if (peer)
        mux_relay_orphaned(loop, peer, error);
}

void mux_slot_finish(mux_loop *loop, mux_slot *slot)
{
    loop->backend->ops->release(loop->backend, slot);
    mux_slots_give_back(&loop->slots, slot);
    if (slot->outgoing)
        MUX_COUNT(loop->stats->outgoing, -1);
    else
        MUX_COUNT(loop->stats->open, -1);
    if (loop->draining)
        loop->woken = true;
    if (loop->resting)
        mux_listeners_resume(loop);
}
