#include "wheel.h"

#define MIN_TICK 1000000 /* 1 ms: epoll_wait cannot wait for less */

void mux_wheel_open(mux_wheel *wheel, mux_slots *slots, int64_t after, int64_t now)
{
    wheel->slots = slots;
    wheel->after = after;
    /* two buckets are spare: the one being emptied, and one for rounding up */
    wheel->tick = after / (MUX_WHEEL_BUCKETS - 2) + 1;
    if (wheel->tick < MIN_TICK)
        wheel->tick = MIN_TICK;
    wheel->next = now + wheel->tick;
    wheel->at = 0;
    wheel->count = 0;
    for (uint32_t i = 0; i < MUX_WHEEL_BUCKETS; i++)
        wheel->heads[i] = MUX_NONE;
}

void mux_wheel_add(mux_wheel *wheel, mux_slot *slot)
{
    if (!wheel->after)
        return;
    int64_t wait = slot->moved_at + wheel->after - wheel->next;
    uint32_t ticks = wait <= 0 ? 0 : (uint32_t)((wait + wheel->tick - 1) / wheel->tick);
    /* The wheel may lag behind the clock that moved_at was taken from. One bucket less than all: counted
     * from the next bucket, all of them would lead back to the one being emptied, for ever. */
    if (ticks > MUX_WHEEL_BUCKETS - 2)
        ticks = MUX_WHEEL_BUCKETS - 2;
    uint32_t bucket = (wheel->at + ticks) % MUX_WHEEL_BUCKETS;
    uint32_t head = wheel->heads[bucket];
    slot->wheel_at = (uint8_t)bucket;
    slot->wheel_prev = MUX_NONE;
    slot->wheel_next = head;
    if (head != MUX_NONE)
        mux_slots_at(wheel->slots, head)->wheel_prev = slot->index;
    wheel->heads[bucket] = slot->index;
    wheel->count++;
}

void mux_wheel_remove(mux_wheel *wheel, mux_slot *slot)
{
    if (slot->wheel_at == MUX_NO_BUCKET)
        return;
    if (slot->wheel_prev == MUX_NONE)
        wheel->heads[slot->wheel_at] = slot->wheel_next;
    else
        mux_slots_at(wheel->slots, slot->wheel_prev)->wheel_next = slot->wheel_next;
    if (slot->wheel_next != MUX_NONE)
        mux_slots_at(wheel->slots, slot->wheel_next)->wheel_prev = slot->wheel_prev;
    slot->wheel_at = MUX_NO_BUCKET;
    wheel->count--;
}

mux_slot *mux_wheel_expired(mux_wheel *wheel, int64_t now, uint32_t *looks)
{
    /* After a leap of the clock one whole turn of the wheel finds them all: it need not turn for each. */
    int64_t turn = wheel->tick * MUX_WHEEL_BUCKETS;
    if (now - wheel->next > 2 * turn)
        wheel->next += ((now - wheel->next) / turn - 1) * turn;
    while (wheel->count && wheel->next <= now) {
        uint32_t head = wheel->heads[wheel->at];
        if (head == MUX_NONE) {
            wheel->at = (wheel->at + 1) % MUX_WHEEL_BUCKETS;
            wheel->next += wheel->tick;
            continue;
        }
        if (!*looks)
            return NULL;
        --*looks;
        mux_slot *slot = mux_slots_at(wheel->slots, head);
        mux_wheel_remove(wheel, slot);
        if (slot->moved_at + wheel->after <= now)
            return slot;
        /* it has moved: its new deadline is after now, so never in the bucket being emptied */
        int64_t before = wheel->next;
        wheel->next = before + wheel->tick;
        wheel->at = (wheel->at + 1) % MUX_WHEEL_BUCKETS;
        mux_wheel_add(wheel, slot);
        wheel->next = before;
        wheel->at = (wheel->at + MUX_WHEEL_BUCKETS - 1) % MUX_WHEEL_BUCKETS;
    }
    if (!wheel->count)
        wheel->next = now + wheel->tick; /* an empty wheel has nothing to catch up with */
    return NULL;
}

int64_t mux_wheel_due(const mux_wheel *wheel)
{
    return wheel->count ? wheel->next : INT64_MAX;
}
