#include "mover.h"

#include <errno.h>

#include "connection.h"
#include "moved.h"

/* -- its life */

mux_mover *mux_mover_new(const mux_options *options, int wake, int wake_giver, const char **failed, int *error)
{
    mux_mover *mover = mux_sys_allocate(1, sizeof *mover);
    *failed = "malloc";
    *error = ENOMEM;
    if (!mover)
        return NULL;
    mover->wake = wake;
    mover->wake_giver = wake_giver;
    mover->loop = mux_loop_new(options, failed, error);
    if (mover->loop) {
        mover->origins = mux_sys_allocate(mover->loop->slots.cap, sizeof(mux_slot *));
        if (mover->origins)
            return mover;
        *failed = "malloc";
        *error = ENOMEM;
    }
    mux_mover_free(mover);
    return NULL;
}

void mux_loop_give_to(mux_loop *loop, mux_mover *mover)
{
    mover->next = loop->movers;
    loop->movers = mover;
}

void mux_mover_drain(mux_mover *mover)
{
    __atomic_store_n(&mover->draining, true, __ATOMIC_SEQ_CST);
    mux_sys_wake(mover->wake);
}

void mux_mover_stop(mux_mover *mover)
{
    __atomic_store_n(&mover->stopped, true, __ATOMIC_SEQ_CST);
    mux_sys_wake(mover->wake);
}

/* In a fork the loop is a copy of one that another thread was at work in: only its descriptors are sure. */
static void close_copies(mux_loop *loop)
{
    for (uint32_t i = 0; i < loop->slots.used; i++) {
        mux_slot *slot = mux_slots_at(&loop->slots, i);
        if (slot->state != MUX_FREE && slot->handle >= 0)
            (void)mux_sys_close(slot->handle);
    }
    loop->backend->ops->close(loop->backend);
}

void mux_mover_free(mux_mover *mover)
{
    if (mover->loop && mover->loop->forks != mux_sys_forks())
        close_copies(mover->loop);
    else
        mux_loop_free(mover->loop);
    mux_sys_free(mover->origins);
    mux_sys_free(mover);
}

/* -- pairs come */

static mux_slot *attach(mux_mover *mover, mux_transit *transit, int side, int *failed)
{
    mux_loop *loop = mover->loop;
    mux_slot *slot = mux_conn_open(loop, transit->sides[side].handle, MUX_VERB_NONE, true, failed);
    if (!slot)
        return NULL;
    MUX_SET_COUNT(slot->bytes_in, transit->sides[side].in);
    MUX_SET_COUNT(slot->bytes_out, transit->sides[side].out);
    slot->high = transit->sides[side].high;
    slot->low = transit->sides[side].low;
    slot->queue = transit->sides[side].queue;
    slot->choked = slot->queue.size > slot->high;
    slot->unread = true; /* nobody has looked meanwhile */
    slot->shared = true; /* whether somebody else holds the file is not known here */
    loop->backend->ops->interest(loop->backend, slot);
    return slot;
}

/* One of them could not be attached: both end, as they would have in the giving loop. */
static void give_up(mux_mover *mover, mux_slot *origin, mux_slot *slots[2], int failed)
{
    mux_transit *transit = origin->moved.transit;
    for (int i = 0; i < 2; i++)
        if (slots[i]) {
            slots[i]->seen = false;
            mux_conn_end(mover->loop, slots[i], 0);
        } else {
            (void)mux_sys_close(transit->sides[i].handle);
            mux_sendq_clear(&transit->sides[i].queue, &mover->loop->pool);
        }
    mux_moved_fail(mover, origin, -failed);
}

/* False: it has ended, and the slot is the giving loop's again. */
static bool take_over(mux_mover *mover, mux_slot *origin)
{
    mux_transit *transit = origin->moved.transit;
    mux_slot *slots[2] = {NULL, NULL}, *second = transit->sides[1].slot;
    int failed = 0;
    for (int i = 0; i < 2 && !failed; i++)
        slots[i] = attach(mover, transit, i, &failed);
    if (!slots[0] || !slots[1]) {
        give_up(mover, origin, slots, failed);
        return false;
    }
    mover->origins[slots[0]->index] = origin;
    mover->origins[slots[1]->index] = second ? second : origin;
    origin->moved.going = 0;
    origin->moved.other = second ? NULL : slots[1];
    __atomic_store_n(&origin->moved.there, slots[0], __ATOMIC_RELEASE);
    if (second)
        __atomic_store_n(&second->moved.there, slots[1], __ATOMIC_RELEASE);
    (void)mux_relay(mover->loop, slots[0]->index, slots[0]->generation, slots[1]->index,
                    slots[1]->generation, "", 0, "", 0); /* both are open, and under no verb */
    for (int i = 0; i < 2; i++) {
        slots[i]->answered = transit->sides[i].answered;
        if (transit->sides[i].ended_first)
            (void)mux_relay_more(mover->loop, slots[i]->index, slots[i]->generation, NULL, 0); /* they are joined */
    }
    mux_sys_free(transit);
    return true;
}

static void answer(mux_mover *mover, mux_slot *origin)
{
    const uint8_t asked = __atomic_exchange_n(&origin->moved.asked, 0, __ATOMIC_SEQ_CST);
    mux_slot *const slots[2] = {origin->moved.there, origin->moved.other};
    for (int i = 0; asked && i < 2; i++) {
        if (!slots[i])
            continue;
        if (!(asked & MUX_ASK_ABORT)) {
            mux_conn_close(mover->loop, slots[i]);
            continue;
        }
        slots[i]->abortive = asked & MUX_ASK_RESET;
        mux_conn_end(mover->loop, slots[i], 0);
    }
}

static void take_in(mux_mover *mover)
{
    for (mux_slot *origin = mux_moved_pop_all(&mover->inbox), *next; origin; origin = next) {
        next = origin->moved.next;
        if (origin->moved.going && !take_over(mover, origin))
            continue;
        if (!origin->moved.pending) {
            mux_moved_return(mover, origin); /* it ended while it was in the queue */
            continue;
        }
        __atomic_store_n(&origin->moved.queued, 0, __ATOMIC_SEQ_CST); /* first: no ask is missed */
        answer(mover, origin);
    }
}

/* -- their ends go back */

static void lost(mux_mover *mover, const mux_event *event)
{
    mux_loop *loop = mover->loop;
    mux_slot *slot = mux_slots_at(&loop->slots, event->slot), *origin = mover->origins[event->slot];
    uint64_t life[4];
    memcpy(life, mux_loop_arena(loop) + event->data, sizeof life);
    if (origin->moved.there == slot) {
        origin->error = event->value;
        if (life[2])
            origin->hold |= MUX_HOLD_FIRST;
        origin->answered = (uint32_t)life[3];
        MUX_SET_COUNT(origin->bytes_in, life[0]);
        MUX_SET_COUNT(origin->bytes_out, life[1]);
        __atomic_store_n(&origin->moved.there, NULL, __ATOMIC_RELEASE);
    } else {
        origin->moved.other = NULL;
    }
    mover->origins[event->slot] = NULL;
    (void)mux_release(loop, event->slot, slot->generation);
    if (!--origin->moved.pending && !__atomic_exchange_n(&origin->moved.queued, 1, __ATOMIC_SEQ_CST))
        mux_moved_return(mover, origin); /* else it is in the inbox, and comes from there */
}

static void tell(mux_mover *mover, int count)
{
    const mux_event *events = mux_loop_events(mover->loop);
    for (int i = 0; i < count; i++)
        if (events[i].kind == MUX_EV_LOST)
            lost(mover, &events[i]);
}

static void end_all(mux_mover *mover, int error)
{
    mux_loop *loop = mover->loop;
    __atomic_store_n(&mover->dead, true, __ATOMIC_SEQ_CST);
    for (uint32_t i = 0; i < loop->slots.used; i++)
        if (mover->origins[i])
            mux_conn_end(loop, mux_slots_at(&loop->slots, i), error);
    for (int count; (count = mux_loop_poll(loop, 0)) > 0;)
        tell(mover, count); /* these come before a wait, which may fail */
    mux_moved_refuse(mover, &loop->pool, error);
}

int mux_mover_run(mux_mover *mover)
{
    int count = 0;
    while (count >= 0 && !__atomic_load_n(&mover->stopped, __ATOMIC_SEQ_CST)) {
        mover->loop->draining = __atomic_load_n(&mover->draining, __ATOMIC_SEQ_CST);
        take_in(mover);
        count = mux_loop_poll(mover->loop, INT64_MAX);
        if (count > 0)
            tell(mover, count);
        if (mover->loop->draining)
            mux_sys_wake(mover->wake_giver);
    }
    end_all(mover, count < 0 ? -count : 0);
    return count < 0 ? count : 0;
}
