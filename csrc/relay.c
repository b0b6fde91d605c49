#include "relay.h"

#include <errno.h>

mux_slot *mux_relay_peer(mux_loop *loop, const mux_slot *slot)
{
    bool joined = slot->verb == MUX_VERB_RELAY && slot->peer != MUX_NONE;
    return joined ? mux_slots_at(&loop->slots, slot->peer) : NULL;
}

/* -- those that have ended before their peers: one duration for all, so they are due in the order they came */

static void half_add(mux_loop *loop, mux_slot *slot)
{
    slot->half_at = loop->now;
    slot->half_next = MUX_NONE;
    slot->half_prev = loop->half_last;
    if (loop->half_last == MUX_NONE)
        loop->half_first = slot->index;
    else
        mux_slots_at(&loop->slots, loop->half_last)->half_next = slot->index;
    loop->half_last = slot->index;
}

static void half_remove(mux_loop *loop, mux_slot *slot)
{
    if (!slot->half_at)
        return;
    slot->half_at = 0;
    if (slot->half_prev == MUX_NONE)
        loop->half_first = slot->half_next;
    else
        mux_slots_at(&loop->slots, slot->half_prev)->half_next = slot->half_next;
    if (slot->half_next == MUX_NONE)
        loop->half_last = slot->half_prev;
    else
        mux_slots_at(&loop->slots, slot->half_next)->half_prev = slot->half_prev;
}

int64_t mux_relay_due(const mux_loop *loop)
{
    if (loop->half_first == MUX_NONE || !loop->options.half_close)
        return INT64_MAX;
    return mux_slots_at(&loop->slots, loop->half_first)->half_at + loop->options.half_close;
}

void mux_relay_overdue(mux_loop *loop, uint32_t *looks)
{
    for (; *looks && mux_relay_due(loop) <= loop->told_at; --*looks)
        mux_slot_expire(loop, mux_slots_at(&loop->slots, loop->half_first), MUX_HALF_CLOSED);
}

/* -- bytes */

void mux_relay_received(mux_loop *loop, mux_slot *slot, const char *buffer, size_t size)
{
    mux_slot *peer = mux_relay_peer(loop, slot);
    if (peer) {
        peer->moved_at = loop->now;
        mux_slot_put(loop, peer, buffer, size);
    }
}

void mux_relay_sent(mux_loop *loop, mux_slot *slot)
{
    mux_slot *peer = mux_relay_peer(loop, slot);
    if (peer)
        peer->moved_at = loop->now;
}

void mux_relay_choked(mux_loop *loop, mux_slot *slot)
{
    mux_slot *peer = mux_relay_peer(loop, slot);
    if (peer)
        mux_slot_hold(loop, peer, MUX_HOLD_BACKLOG);
}

void mux_relay_relieved(mux_loop *loop, mux_slot *slot)
{
    mux_slot *peer = mux_relay_peer(loop, slot);
    if (peer)
        mux_slot_unhold(loop, peer, MUX_HOLD_BACKLOG);
}

/* -- the end */

static bool both_have_ended(const mux_slot *slot, const mux_slot *peer)
{
    return slot->eof_wanted && peer->eof_wanted && !slot->queue.size && !peer->queue.size;
}

void mux_relay_eof(mux_loop *loop, mux_slot *slot)
{
    mux_slot *peer = mux_relay_peer(loop, slot);
    if (!peer || peer->eof_wanted)
        return;
    peer->eof_wanted = true;
    if (both_have_ended(slot, peer)) {
        mux_slot_end(loop, slot, 0); /* its close says EOF as well as a shutdown would */
        return;
    }
    if (!slot->eof_wanted)
        half_add(loop, slot);
    if (!peer->queue.size) {
        int failed = loop->backend->ops->shutdown_write(loop->backend, peer);
        if (failed)
            mux_slot_end(loop, peer, (int32_t)-failed);
    }
}

void mux_relay_emptied(mux_loop *loop, mux_slot *slot)
{
    mux_slot *peer = mux_relay_peer(loop, slot);
    if (peer && both_have_ended(slot, peer))
        mux_slot_end(loop, slot, 0);
}

mux_slot *mux_relay_part(mux_loop *loop, mux_slot *slot)
{
    mux_slot *peer = mux_relay_peer(loop, slot);
    if (!peer)
        return NULL;
    half_remove(loop, slot);
    half_remove(loop, peer);
    slot->peer = peer->peer = MUX_NONE;
    return peer;
}

void mux_relay_orphaned(mux_loop *loop, mux_slot *peer, int32_t error)
{
    if (!error && peer->state == MUX_CLOSING)
        return; /* both were closed: it still sends what is queued */
    peer->abortive = error != 0;
    mux_slot_end(loop, peer, error > 0 ? error | MUX_PASSED_ON : error);
}

/* -- what Python may ask for */

static bool may_be_joined(const mux_slot *slot)
{
    return slot->state == MUX_OPEN && !slot->verb && !slot->eof_wanted;
}

static void begin(mux_loop *loop, mux_slot *slot)
{
    if (slot->state == MUX_OPEN && slot->choked)
        mux_relay_choked(loop, slot);
    if (slot->state == MUX_OPEN)
        mux_slot_unhold(loop, slot, MUX_HOLD_PYTHON);
}

int mux_relay(mux_loop *loop, uint32_t index, uint32_t generation, uint32_t peer_index,
              uint32_t peer_generation, const void *to_peer, size_t to_peer_size, const void *to_slot,
              size_t to_slot_size)
{
    mux_slot *peer = mux_loop_find(loop, peer_index, peer_generation);
    FIND(loop, index, generation);
    if (!peer)
        return -ESTALE;
    if (slot == peer || !may_be_joined(slot) || !may_be_joined(peer))
        return -EINVAL;
    mux_loop_look(loop);
    slot->verb = peer->verb = MUX_VERB_RELAY;
    slot->peer = peer->index;
    peer->peer = slot->index;
    slot->moved_at = peer->moved_at = loop->now;
    mux_slot_put(loop, peer, to_peer, to_peer_size);
    mux_slot_put(loop, slot, to_slot, to_slot_size);
    begin(loop, slot);
    begin(loop, peer);
    return 0;
}

int mux_relay_more(mux_loop *loop, uint32_t index, uint32_t generation, const void *data, size_t size)
{
    FIND(loop, index, generation);
    mux_loop_look(loop);
    slot->moved_at = loop->now;
    if (size)
        mux_relay_received(loop, slot, data, size);
    else
        mux_relay_eof(loop, slot);
    return 0;
}

int mux_forget(mux_loop *loop, uint32_t index, uint32_t generation)
{
    FIND(loop, index, generation);
    if (mux_slot_over(slot) || !mux_relay_peer(loop, slot))
        return -EBUSY;
    for (uint32_t i = 0; i < loop->count; i++) {
        const mux_event *event = &loop->events[i];
        bool birth = event->kind == MUX_EV_CONNECTED || event->kind == MUX_EV_ACCEPTED;
        if (event->slot == index && !birth) /* before its birth Python could not have joined it */
            return -EBUSY;
    }
    slot->seen = false;
    return 0;
}
