#include "moved.h"

#include <errno.h>

#include "connection.h"
#include "rate.h"
#include "verb_relay.h"

/* -- the queues */

void mux_moved_push(mux_slot **queue, mux_slot *slot, int wake)
{
    mux_slot *first = __atomic_load_n(queue, __ATOMIC_RELAXED);
    do
        slot->moved.next = first;
    while (!__atomic_compare_exchange_n(queue, &first, slot, true, __ATOMIC_SEQ_CST, __ATOMIC_RELAXED));
    if (!first)
        mux_sys_wake(wake);
}

mux_slot *mux_moved_pop_all(mux_slot **queue)
{
    mux_slot *last = __atomic_exchange_n(queue, NULL, __ATOMIC_SEQ_CST), *first = NULL;
    while (last) {
        mux_slot *next = last->moved.next;
        last->moved.next = first;
        first = last;
        last = next;
    }
    return first;
}

void mux_moved_return(mux_mover *mover, mux_slot *slot)
{
    __atomic_sub_fetch(&mover->pairs, 1, __ATOMIC_RELAXED);
    mux_moved_push(&mover->outbox, slot, mover->wake_giver);
}

void mux_moved_fail(mux_mover *mover, mux_slot *slot, int error)
{
    mux_transit *transit = slot->moved.transit;
    slot->moved.going = 0;
    for (int i = 1; i >= 0; i--) {
        mux_slot *side = transit->sides[i].slot;
        if (!side)
            continue;
        side->error = error;
        side->moved.pending = 0;
        if (side == slot || !__atomic_exchange_n(&side->moved.queued, 1, __ATOMIC_SEQ_CST))
            mux_moved_return(mover, side); /* else it is in the inbox by itself, and comes from there */
    }
    mux_sys_free(transit);
}

void mux_moved_refuse(mux_mover *mover, mux_pool *pool, int error)
{
    for (mux_slot *slot = mux_moved_pop_all(&mover->inbox), *next; slot; slot = next) {
        next = slot->moved.next;
        if (!slot->moved.going) {
            mux_moved_return(mover, slot); /* it has ended */
            continue;
        }
        for (int i = 0; i < 2; i++) {
            (void)mux_sys_close(slot->moved.transit->sides[i].handle);
            mux_sendq_clear(&slot->moved.transit->sides[i].queue, pool);
        }
        mux_moved_fail(mover, slot, error);
    }
}

/* -- they leave */

static mux_mover *fewest(const mux_loop *loop)
{
    mux_mover *found = NULL;
    for (mux_mover *each = loop->movers; each; each = each->next)
        if (!__atomic_load_n(&each->dead, __ATOMIC_SEQ_CST) &&
            (!found || __atomic_load_n(&each->pairs, __ATOMIC_RELAXED) <
                           __atomic_load_n(&found->pairs, __ATOMIC_RELAXED)))
            found = each;
    return found;
}

static void pack(mux_loop *loop, mux_slot *slot, mux_transit *transit, int side)
{
    mux_backend *backend = loop->backend;
    transit->sides[side].handle = backend->ops->give(backend, slot);
    transit->sides[side].queue = slot->queue;
    transit->sides[side].in = slot->bytes_in;
    transit->sides[side].out = slot->bytes_out;
    transit->sides[side].high = slot->high;
    transit->sides[side].low = slot->low;
    transit->sides[side].answered = slot->answered;
    transit->sides[side].ended_first = slot->hold & MUX_HOLD_FIRST;
    mux_conn_become(loop, slot, MUX_MOVED);
    memset(&slot->queue, 0, sizeof slot->queue);
    slot->eof_wanted = false; /* from now on: whether it was asked to close */
    slot->hold |= MUX_HOLD_GONE;
}

static void stay(mux_slot *slot, mux_mover *mover, mux_transit *transit, int side)
{
    transit->sides[side].slot = slot;
    slot->moved = (mux_moved){.mover = mover, .pending = 1};
    __atomic_add_fetch(&mover->pairs, 1, __ATOMIC_RELAXED);
}

static void leave(mux_loop *loop, mux_slot *slot)
{
    mux_mover *mover = fewest(loop);
    mux_slot *peer = slot->peer != MUX_NONE ? mux_slots_at(&loop->slots, slot->peer) : NULL;
    if (!mover || !peer || slot->state != MUX_OPEN || peer->state != MUX_OPEN)
        return; /* they have ended, or are about to */
    if (loop->rates && (mux_rates_limits(loop->rates, slot->index) || mux_rates_limits(loop->rates, peer->index)))
        return; /* what they count against is this loop's: they stay here */
    mux_transit *transit = mux_sys_allocate(1, sizeof *transit);
    if (!transit)
        return; /* they stay here, which is as good */
    if (peer->seen && !slot->seen) {
        mux_slot *seen = peer;
        peer = slot;
        slot = seen;
    }
    (void)mux_relay_split(loop, slot); /* an EOF that was heard is heard again: the kernel says so each time */
    pack(loop, slot, transit, 0);
    pack(loop, peer, transit, 1);
    stay(slot, mover, transit, 0);
    slot->moved.transit = transit;
    slot->moved.going = 1;
    if (peer->seen) {
        stay(peer, mover, transit, 1);
    } else { /* nobody will name it */
        slot->moved.pending = 2;
        slot->moved.carries = peer->outgoing ? 2 : 1;
        mux_slots_give_back(&loop->slots, peer);
    }
    slot->moved.queued = 1;
    mux_moved_push(&mover->inbox, slot, mover->wake);
    if (__atomic_load_n(&mover->dead, __ATOMIC_SEQ_CST))
        mux_moved_refuse(mover, &loop->pool, EBADF); /* it ended just now, and did not see this pair */
}

int64_t mux_moved_due(const mux_loop *loop)
{
    if (loop->joined_first == loop->joined_count)
        return INT64_MAX;
    return loop->joined[loop->joined_first].at + loop->options.stay;
}

void mux_moved_leave(mux_loop *loop)
{
    while (mux_moved_due(loop) <= loop->now) {
        const struct mux_joined *next = &loop->joined[loop->joined_first++];
        mux_slot *slot = mux_loop_find(loop, next->index, next->generation);
        if (slot)
            leave(loop, slot);
    }
    if (loop->joined_first == loop->joined_count)
        loop->joined_first = loop->joined_count = 0;
}

/* -- they are asked, and asked for */

void mux_moved_ask(mux_slot *slot, uint8_t what)
{
    slot->eof_wanted = true;
    __atomic_or_fetch(&slot->moved.asked, what, __ATOMIC_SEQ_CST);
    if (!__atomic_exchange_n(&slot->moved.queued, 1, __ATOMIC_SEQ_CST))
        mux_moved_push(&slot->moved.mover->inbox, slot, slot->moved.mover->wake);
}

void mux_moved_bytes(const mux_slot *slot, uint64_t *in_out)
{
    const mux_slot *from, *there;
    do { /* its slot there may be another's by the time that we look */
        there = __atomic_load_n(&slot->moved.there, __ATOMIC_ACQUIRE);
        from = there ? there : slot;
        in_out[0] = MUX_COUNTED(from->bytes_in);
        in_out[1] = MUX_COUNTED(from->bytes_out);
    } while (there != __atomic_load_n(&slot->moved.there, __ATOMIC_ACQUIRE));
}

/* -- they have ended */

static void come_back(mux_loop *loop, mux_slot *slot)
{
    if (slot->moved.carries == 1)
        MUX_COUNT(loop->stats->open, -1);
    else if (slot->moved.carries)
        MUX_COUNT(loop->stats->outgoing, -1);
    if (slot->moved.carries)
        loop->room = true;
    mux_slots_unlink(slot);
    slot->state = MUX_LOST;
    mux_batch_ended(&loop->batch, &loop->slots, slot);
}

void mux_moved_hear(mux_loop *loop)
{
    for (mux_mover *mover = loop->movers; mover; mover = mover->next)
        for (mux_slot *slot = mux_moved_pop_all(&mover->outbox), *next; slot; slot = next) {
            next = slot->moved.next;
            come_back(loop, slot);
        }
}
