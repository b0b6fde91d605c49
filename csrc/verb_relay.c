#include "verb_relay.h"

#include <errno.h>

#include "connection.h"
#include "loop.h"

static mux_slot *peer_of(mux_loop *loop, const mux_slot *slot)
{
    return slot->peer != MUX_NONE ? mux_slots_at(&loop->slots, slot->peer) : NULL;
}

/* -- those that have ended before their peers: one duration for all, so they are due in the order they came */

static void half_closed_add(mux_loop *loop, mux_slot *slot)
{
    slot->half_closed_at = loop->now;
    slot->half_closed_next = MUX_NONE;
    slot->half_closed_prev = loop->half_closed_last;
    if (loop->half_closed_last == MUX_NONE)
        loop->half_closed_first = slot->index;
    else
        mux_slots_at(&loop->slots, loop->half_closed_last)->half_closed_next = slot->index;
    loop->half_closed_last = slot->index;
}

static void half_closed_remove(mux_loop *loop, mux_slot *slot)
{
    if (!slot->half_closed_at)
        return;
    slot->half_closed_at = 0;
    if (slot->half_closed_prev == MUX_NONE)
        loop->half_closed_first = slot->half_closed_next;
    else
        mux_slots_at(&loop->slots, slot->half_closed_prev)->half_closed_next = slot->half_closed_next;
    if (slot->half_closed_next == MUX_NONE)
        loop->half_closed_last = slot->half_closed_prev;
    else
        mux_slots_at(&loop->slots, slot->half_closed_next)->half_closed_prev = slot->half_closed_prev;
}

int64_t mux_relay_due(const mux_loop *loop)
{
    if (loop->half_closed_first == MUX_NONE || !loop->options.half_close)
        return INT64_MAX;
    return mux_slots_at(&loop->slots, loop->half_closed_first)->half_closed_at + loop->options.half_close;
}

void mux_relay_overdue(mux_loop *loop, uint32_t *looks)
{
    for (; *looks && mux_relay_due(loop) <= loop->told_at; --*looks)
        mux_conn_expire(loop, mux_slots_at(&loop->slots, loop->half_closed_first), MUX_HALF_CLOSED);
}

/* -- bytes */

static void received(mux_loop *loop, mux_slot *slot, const char *buffer, size_t size)
{
    mux_slot *peer = peer_of(loop, slot);
    if (peer) {
        if (!peer->answered)
            peer->answered = (uint32_t)(loop->now / 100000) | 1; /* 200 us: no slot has room for more */
        peer->moved_at = loop->now;
        mux_conn_send(loop, peer, buffer, size);
    }
}

static void choked(mux_loop *loop, mux_slot *slot)
{
    mux_slot *peer = peer_of(loop, slot);
    if (peer)
        mux_conn_hold(loop, peer, MUX_HOLD_BACKLOG);
}

static void sent(mux_loop *loop, mux_slot *slot, bool relieved)
{
    mux_slot *peer = peer_of(loop, slot);
    if (!peer)
        return;
    peer->moved_at = loop->now; /* time is counted for both */
    if (relieved)
        mux_conn_unhold(loop, peer, MUX_HOLD_BACKLOG);
}

/* -- the end */

static bool both_have_ended(const mux_slot *slot, const mux_slot *peer)
{
    return slot->eof_wanted && peer->eof_wanted && !slot->queue.size && !peer->queue.size;
}

static void ended(mux_loop *loop, mux_slot *slot)
{
    mux_slot *peer = peer_of(loop, slot);
    if (!peer || peer->eof_wanted)
        return;
    if (!slot->eof_wanted)
        slot->hold |= MUX_HOLD_FIRST;
    if (loop->options.together) {
        mux_conn_close(loop, slot); /* both, once what is queued is sent */
        return;
    }
    peer->eof_wanted = true;
    if (both_have_ended(slot, peer)) {
        mux_conn_end(loop, slot, 0); /* its close says EOF as well as a shutdown would */
        return;
    }
    if (!slot->eof_wanted)
        half_closed_add(loop, slot);
    if (!peer->queue.size) {
        int failed = loop->backend->ops->shutdown_write(loop->backend, peer);
        if (failed && failed != -ENOTCONN) /* that one: a mover says again what was said, and the peer has ended too */
            mux_conn_end(loop, peer, (int32_t)-failed);
    }
}

static void emptied(mux_loop *loop, mux_slot *slot)
{
    mux_slot *peer = peer_of(loop, slot);
    if (peer && both_have_ended(slot, peer))
        mux_conn_end(loop, slot, 0);
}

static void closed(mux_loop *loop, mux_slot *slot)
{
    mux_slot *peer = peer_of(loop, slot);
    if (peer)
        mux_conn_close(loop, peer);
}

mux_slot *mux_relay_split(mux_loop *loop, mux_slot *slot)
{
    mux_slot *peer = peer_of(loop, slot);
    if (!peer)
        return NULL;
    half_closed_remove(loop, slot);
    half_closed_remove(loop, peer);
    slot->peer = peer->peer = MUX_NONE;
    return peer;
}

/* All that was queued for it is sent. Its peer was closed as well, and still sends what it has. */
static void finished(mux_loop *loop, mux_slot *slot)
{
    (void)mux_relay_split(loop, slot);
}

static void lost(mux_loop *loop, mux_slot *slot, int32_t error)
{
    mux_slot *peer = mux_relay_split(loop, slot);
    if (!peer)
        return;
    peer->abortive = error != 0 || slot->abortive;
    mux_conn_end(loop, peer, error > 0 ? error | MUX_PASSED_ON : error);
}

const mux_verb_ops mux_verb_relay = {
    .into = MUX_INTO_SCRATCH,
    .large = true,
    .pairs = true,
    .received = received,
    .ended = ended,
    .choked = choked,
    .sent = sent,
    .emptied = emptied,
    .closed = closed,
    .finished = finished,
    .lost = lost,
};

/* -- what Python may ask for */

static bool may_be_joined(const mux_slot *slot)
{
    return slot->state == MUX_OPEN && !slot->verb && !slot->eof_wanted;
}

/* Remember a pair that may go to a mover; where there is no memory for that, it stays here. */
static void remember(mux_loop *loop, const mux_slot *slot)
{
    if (loop->joined_count == loop->joined_room) {
        const uint32_t room = loop->joined_room ? 2 * loop->joined_room : 64;
        struct mux_joined *joined = mux_sys_allocate(room, sizeof *joined);
        if (!joined)
            return;
        loop->joined_count -= loop->joined_first;
        if (loop->joined_count)
            memcpy(joined, loop->joined + loop->joined_first, loop->joined_count * sizeof *joined);
        loop->joined_first = 0;
        mux_sys_free(loop->joined);
        loop->joined = joined;
        loop->joined_room = room;
    }
    loop->joined[loop->joined_count++] = (struct mux_joined){slot->index, slot->generation, loop->now};
}

static void begin(mux_loop *loop, mux_slot *slot)
{
    if (slot->state == MUX_OPEN && slot->choked)
        choked(loop, slot);
    if (slot->state == MUX_OPEN)
        mux_conn_unhold(loop, slot, MUX_HOLD_PYTHON);
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
    slot->answered = peer->answered = 0;
    slot->peer = peer->index;
    peer->peer = slot->index;
    slot->moved_at = peer->moved_at = loop->now;
    mux_conn_send(loop, peer, to_peer, to_peer_size);
    mux_conn_send(loop, slot, to_slot, to_slot_size);
    begin(loop, slot);
    begin(loop, peer);
    if (loop->movers)
        remember(loop, slot);
    return 0;
}

int mux_relay_more(mux_loop *loop, uint32_t index, uint32_t generation, const void *data, size_t size)
{
    FIND_HERE(loop, index, generation);
    mux_loop_look(loop);
    slot->moved_at = loop->now;
    if (size)
        received(loop, slot, data, size);
    else
        ended(loop, slot);
    return 0;
}

int mux_forget(mux_loop *loop, uint32_t index, uint32_t generation)
{
    FIND(loop, index, generation);
    if (mux_slot_over(slot) || !peer_of(loop, slot))
        return -EBUSY;
    for (uint32_t i = 0; i < loop->batch.count; i++) {
        const mux_event *event = &loop->batch.events[i];
        bool birth = event->kind == MUX_EV_CONNECTED || event->kind == MUX_EV_ACCEPTED;
        if (event->slot == index && !birth) /* before its birth Python could not have joined it */
            return -EBUSY;
    }
    slot->seen = false;
    return 0;
}
