/* What a transport in Python may ask of its connection: each function finds the slot by its name, or
 * says -ESTALE; so it does where there is no loop any more (NULL). All of them run in the loop's thread,
 * between two polls; any other is told -EPERM. */
#include <errno.h>

#include "connection.h"
#include "loop.h"
#include "moved.h"
#include "rate.h"
#include "verb.h"

int64_t mux_adopt(mux_loop *loop, int handle, int verb, int seen, uint32_t *generation)
{
    int failed;
    if (mux_loop_foreign(loop))
        return -EPERM;
    if (!mux_verb_is_for_one(loop, verb))
        return -EINVAL;
    mux_loop_look(loop);
    mux_slot *slot = mux_conn_open(loop, handle, verb, seen, &failed);
    if (!slot)
        return failed;
    slot->shared = true;
    *generation = slot->generation;
    return slot->index;
}

int64_t mux_send(mux_loop *loop, uint32_t index, uint32_t generation, const void *data, size_t size)
{
    FIND_HERE(loop, index, generation);
    mux_loop_look(loop);
    return mux_conn_send(loop, slot, data, size);
}

int64_t mux_queued(mux_loop *loop, uint32_t index, uint32_t generation)
{
    FIND(loop, index, generation);
    if (slot->state == MUX_MOVED) /* how much is not told: something, once it is closed */
        return slot->eof_wanted;
    return (int64_t)slot->queue.size;
}

int mux_marks(mux_loop *loop, uint32_t index, uint32_t generation, uint32_t high, uint32_t low)
{
    FIND_HERE(loop, index, generation);
    slot->high = high;
    slot->low = low;
    slot->choked = slot->choked || slot->queue.size > high;
    return 0;
}

int mux_hold(mux_loop *loop, uint32_t index, uint32_t generation, int on)
{
    FIND_HERE(loop, index, generation);
    if (mux_slot_over(slot))
        return 0;
    if (on)
        mux_conn_hold(loop, slot, MUX_HOLD_PYTHON);
    else
        mux_conn_unhold(loop, slot, MUX_HOLD_PYTHON);
    return 0;
}

int64_t mux_rate_new(mux_loop *loop, double per_second, double burst)
{
    if (!loop || mux_loop_foreign(loop))
        return loop ? -EPERM : -ESTALE;
    if (!loop->rates)
        loop->rates = mux_rates_open();
    return loop->rates ? mux_rates_add(loop->rates, per_second, burst, mux_sys_now()) : -ENOMEM;
}

int mux_rate_change(mux_loop *loop, uint32_t rate, double per_second, double burst)
{
    if (!loop || mux_loop_foreign(loop))
        return loop ? -EPERM : -ESTALE;
    if (!loop->rates || !mux_rates_has(loop->rates, rate))
        return -EINVAL;
    mux_rates_change(loop->rates, rate, per_second, burst, mux_sys_now());
    return 0;
}

int mux_rate_drop(mux_loop *loop, uint32_t rate)
{
    if (!loop || mux_loop_foreign(loop))
        return loop ? -EPERM : -ESTALE;
    if (!loop->rates || !mux_rates_has(loop->rates, rate))
        return -EINVAL;
    mux_rates_drop(loop->rates, rate);
    return 0;
}

int mux_limit(mux_loop *loop, uint32_t index, uint32_t generation, const uint32_t *rates, uint32_t count)
{
    FIND(loop, index, generation);
    if (slot->state == MUX_MOVED)
        return -EBUSY;
    if (count > MUX_RATES_MOST)
        return -EINVAL;
    for (uint32_t i = 0; i < count; i++)
        if (!loop->rates || !mux_rates_has(loop->rates, rates[i]))
            return -EINVAL;
    if (slot->state != MUX_OPEN || !loop->rates)
        return 0; /* what comes is dropped, or there never was a rate */
    int failed = mux_rates_limit(loop->rates, index, rates, count);
    if (!failed)
        mux_conn_unhold(loop, slot, MUX_HOLD_RATE); /* these decide anew */
    return failed;
}

int mux_waits(mux_loop *loop, uint32_t index, uint32_t generation)
{
    FIND(loop, index, generation);
    return mux_loop_waits(loop, slot);
}

int mux_write_eof(mux_loop *loop, uint32_t index, uint32_t generation)
{
    FIND_HERE(loop, index, generation);
    if (slot->state != MUX_OPEN || slot->eof_wanted)
        return 0;
    slot->eof_wanted = true;
    if (slot->queue.size)
        return 0;
    int failed = loop->backend->ops->shutdown_write(loop->backend, slot);
    if (failed)
        mux_conn_end(loop, slot, -failed);
    return 0;
}

int mux_close(mux_loop *loop, uint32_t index, uint32_t generation)
{
    FIND(loop, index, generation);
    if (slot->state == MUX_MOVED)
        mux_moved_ask(slot, MUX_ASK_CLOSE);
    else
        mux_conn_close(loop, slot);
    return 0;
}

int mux_abort(mux_loop *loop, uint32_t index, uint32_t generation, int reset)
{
    FIND(loop, index, generation);
    if (mux_slot_over(slot))
        return 0; /* what lingers is nobody's any more, and ends by itself */
    if (slot->state == MUX_MOVED) {
        mux_moved_ask(slot, reset ? MUX_ASK_ABORT | MUX_ASK_RESET : MUX_ASK_ABORT);
        return 0;
    }
    slot->abortive = reset;
    mux_conn_end(loop, slot, 0);
    return 0;
}

int mux_verb(mux_loop *loop, uint32_t index, uint32_t generation, int verb, const void *kept,
             size_t size)
{
    FIND_HERE(loop, index, generation);
    if (verb == MUX_VERB_NONE || !mux_verb_is_for_one(loop, verb) || (slot->verb && slot->verb != verb))
        return -EINVAL;
    if (slot->state != MUX_OPEN)
        return 0; /* what came meanwhile is dropped, as what comes will be */
    mux_loop_look(loop);
    slot->verb = (uint8_t)verb;
    const mux_verb_ops *ops = mux_verb_of(loop, slot);
    if (slot->choked && ops->choked)
        ops->choked(loop, slot);
    if (size && ops->received)
        ops->received(loop, slot, kept, size);
    mux_conn_unhold(loop, slot, MUX_HOLD_PYTHON);
    return 0;
}

int mux_bytes(mux_loop *loop, uint32_t index, uint32_t generation, uint64_t *in_out)
{
    FIND(loop, index, generation);
    if (slot->state == MUX_MOVED) {
        mux_moved_bytes(slot, in_out);
        return 0;
    }
    in_out[0] = slot->bytes_in;
    in_out[1] = slot->bytes_out;
    return 0;
}

int mux_handle(mux_loop *loop, uint32_t index, uint32_t generation)
{
    FIND(loop, index, generation);
    if (slot->state == MUX_MOVED)
        return -ESTALE;
    slot->shared = true;
    return loop->backend->ops->descriptor(loop->backend, slot);
}

int mux_name(mux_loop *loop, uint32_t index, uint32_t generation, void *address, size_t size)
{
    FIND(loop, index, generation);
    if (slot->state == MUX_MOVED)
        return -ESTALE;
    int fd = loop->backend->ops->descriptor(loop->backend, slot);
    return fd < 0 ? fd : mux_sys_name(fd, address, size);
}

int mux_is_client(mux_loop *loop, uint32_t index, uint32_t generation)
{
    FIND(loop, index, generation);
    if (!slot->outgoing)
        return 1;
    if (slot->state == MUX_MOVED)
        return slot->moved.carries == 1;
    const mux_slot *peer = slot->peer != MUX_NONE ? mux_slots_at(&loop->slots, slot->peer) : NULL;
    return peer && !peer->seen && !peer->outgoing;
}

int mux_refuse(mux_loop *loop, uint32_t index, uint32_t generation)
{
    FIND(loop, index, generation);
    slot->seen = false;
    if (slot->state == MUX_LOST && slot->told)
        mux_conn_free(loop, slot); /* its end is in the batch that brought it */
    else
        mux_conn_end(loop, slot, 0);
    return 0;
}

int mux_release(mux_loop *loop, uint32_t index, uint32_t generation)
{
    FIND(loop, index, generation);
    if (!slot->told || !slot->seen)
        return -EINVAL;
    slot->seen = false;
    if (slot->state == MUX_LOST)
        mux_conn_free(loop, slot);
    return 0;
}

void mux_close_unseen(mux_loop *loop, int at_once)
{
    loop->draining = true;
    for (uint32_t i = 0; i < loop->slots.used; i++) {
        mux_slot *slot = mux_slots_at(&loop->slots, i);
        if (slot->seen || slot->state < MUX_MOVED || slot->state == MUX_LOST)
            continue;
        if (slot->state == MUX_MOVED)
            mux_moved_ask(slot, at_once ? MUX_ASK_ABORT : MUX_ASK_CLOSE);
        else if (at_once)
            mux_conn_end(loop, slot, 0);
        else
            mux_conn_close(loop, slot);
    }
}

/* Whether no byte moves in it: none since the last look, and none is queued, as far as that is known here. */
static bool rests(const mux_slot *slot, uint64_t *moved)
{
    uint64_t in_out[2] = {slot->bytes_in, slot->bytes_out};
    if (slot->state == MUX_MOVED)
        mux_moved_bytes(slot, in_out);
    const uint64_t before = *moved;
    *moved = in_out[0] + in_out[1] + 1; /* 0: it was not looked at */
    return *moved == before && (slot->state == MUX_MOVED || !slot->queue.size);
}

uint32_t mux_loop_slots(const mux_loop *loop)
{
    return loop ? loop->slots.cap : 0;
}

uint32_t mux_stop_unseen(mux_loop *loop, uint32_t most, uint64_t *moved)
{
    uint32_t ended = 0, clients = 0;
    if (!loop || mux_loop_foreign(loop))
        return 0;
    loop->draining = true;
    for (uint32_t i = 0; i < loop->slots.used && ended < most; i++) {
        mux_slot *slot = mux_slots_at(&loop->slots, i);
        if (slot->seen || slot->state < MUX_MOVED || slot->state > MUX_CLOSING)
            continue;
        if (slot->state == MUX_MOVED && slot->eof_wanted)
            continue; /* it was asked already */
        const mux_slot *peer = slot->peer != MUX_NONE ? mux_slots_at(&loop->slots, slot->peer) : NULL;
        if ((peer && peer->seen) || (moved && !(rests(slot, &moved[i]) && (!peer || !peer->queue.size) && !mux_loop_waits(loop, slot))))
            continue; /* the first: it ends with the side that Python sees */
        ended++;
        clients += (slot->outgoing ? 0U : 1U) + (peer && !peer->outgoing ? 1U : 0U);
        if (slot->state == MUX_MOVED)
            mux_moved_ask(slot, MUX_ASK_ABORT);
        else
            mux_conn_end(loop, slot, 0);
    }
    return clients;
}

uint64_t mux_unsent(mux_loop *loop)
{
    uint64_t sum = 0;
    for (uint32_t i = 0; i < loop->slots.used; i++) {
        mux_slot *slot = mux_slots_at(&loop->slots, i);
        if (slot->seen || slot->state == MUX_FREE)
            continue;
        sum += slot->state == MUX_MOVED ? slot->eof_wanted : slot->queue.size;
        sum += slot->state == MUX_LINGERING && loop->backend->ops->unacknowledged(loop->backend, slot);
    }
    return sum;
}
