/* Listeners: what they accept, and when they rest.
 *
 * A listener rests at the cap on connections until one ends, and after a failure for want of descriptors
 * or memory for `accept_pause`: its backlog stays readable, and asking again at once would spin. It rests, too,
 * while a client is for another worker to take (balance.c).
 */
#include "listener.h"

#include <errno.h>

#include "balance.h"
#include "connection.h"
#include "loop.h"
#include "verb.h"

static void rest(mux_loop *loop, mux_slot *listener)
{
    if (!(listener->hold & MUX_HOLD_REST))
        loop->resting++;
    mux_conn_hold(loop, listener, MUX_HOLD_REST);
}

static bool may_take(mux_loop *loop, mux_slot *listener)
{
    if (listener->hold)
        return false;
    if (loop->stats->open >= loop->options.connections) {
        loop->room = false;
        rest(loop, listener);
        return false;
    }
    return !listener->seen || !mux_batch_full(&loop->batch);
}

bool mux_on_may_accept(mux_loop *loop, mux_slot *listener)
{
    if (!may_take(loop, listener))
        return false;
    if (mux_balance_may_accept(loop))
        return true;
    loop->rest_until = loop->now + MUX_BALANCE_PAUSE;
    rest(loop, listener);
    return false;
}

bool mux_on_accepted(mux_loop *loop, mux_slot *listener, int handle, const void *peer, socklen_t size)
{
    if (!may_take(loop, listener))
        return false;
    listener->choked = false;
    int failed;
    mux_slot *slot = mux_conn_open(loop, handle, listener->verb, listener->seen, &failed);
    if (!slot) {
        mux_slot refused = {.handle = handle};
        loop->backend->ops->release(loop->backend, &refused);
        MUX_COUNT(loop->stats->refused, 1);
        return true;
    }
    if (!listener->seen)
        return true;
    struct mux_accepted accepted = {.listener = listener->index, .size = size};
    mux_batch_add(&loop->batch, slot->index, MUX_EV_ACCEPTED, (int32_t)slot->generation);
    mux_batch_bytes(&loop->batch, &accepted, sizeof accepted);
    if (size)
        mux_batch_bytes(&loop->batch, peer, size);
    return true;
}

/* accept(2): the network's errors are the connection's, which is gone: take the next. */
static bool of_the_connection(int error)
{
    switch (error) {
    case ECONNABORTED:
    case EPROTO:
    case ENOPROTOOPT:
    case EOPNOTSUPP:
    case EPERM:
    case EHOSTDOWN:
    case EHOSTUNREACH:
    case ENONET:
    case ENETDOWN:
    case ENETUNREACH:
    case ETIMEDOUT:
        return true;
    default:
        return false;
    }
}

void mux_on_accept_failed(mux_loop *loop, mux_slot *listener, int error)
{
    if (of_the_connection(error))
        return;
    MUX_COUNT(loop->stats->accept_errors, 1);
    if (!listener->choked && loop->batch.count < MUX_EVENTS) {
        listener->choked = true;
        mux_batch_add(&loop->batch, listener->index, MUX_EV_TROUBLE, error);
    }
    loop->rest_until = loop->now + loop->options.accept_pause;
    rest(loop, listener);
}

bool mux_listeners_may_resume(const mux_loop *loop)
{
    /* a connection that ended gave a descriptor back, but the pause bounds the attempts */
    return loop->resting && (loop->rest_until ? loop->rest_until <= loop->now : loop->room);
}

void mux_listeners_resume(mux_loop *loop)
{
    loop->rest_until = 0;
    loop->room = false;
    loop->balance.rested = loop->stats->turns;
    for (uint32_t i = 0; loop->resting && i < loop->slots.used; i++) {
        mux_slot *slot = mux_slots_at(&loop->slots, i);
        if (slot->state == MUX_LISTENER && slot->hold & MUX_HOLD_REST) {
            loop->resting--;
            mux_conn_unhold(loop, slot, MUX_HOLD_REST);
        }
    }
}

int64_t mux_listen(mux_loop *loop, int handle, int verb, int seen)
{
    if (mux_loop_foreign(loop))
        return -EPERM;
    if (!mux_verb_is_for_one(loop, verb))
        return -EINVAL;
    mux_slot *slot = mux_slots_take(&loop->slots);
    if (!slot)
        return -ENOMEM;
    slot->handle = handle;
    slot->state = MUX_LISTENER;
    slot->verb = (uint8_t)verb;
    slot->seen = seen;
    int failed = loop->backend->ops->attach(loop->backend, slot);
    if (failed) {
        mux_slots_give_back(&loop->slots, slot);
        return failed;
    }
    return slot->index;
}

int mux_unlisten(mux_loop *loop, uint32_t index)
{
    if (mux_loop_foreign(loop))
        return -EPERM;
    if (index >= loop->slots.used || mux_slots_at(&loop->slots, index)->state != MUX_LISTENER)
        return -ESTALE;
    mux_slot *slot = mux_slots_at(&loop->slots, index);
    if (slot->hold & MUX_HOLD_REST)
        loop->resting--;
    loop->backend->ops->detach(loop->backend, slot);
    mux_slots_give_back(&loop->slots, slot);
    return 0;
}
