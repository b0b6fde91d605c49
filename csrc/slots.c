#include "slots.h"

#include <errno.h>
#include <string.h>

#include "syscalls.h"

_Static_assert(sizeof(mux_slot) <= 128, "an idle connection costs one slot: keep it at 128 bytes");

int mux_slots_open(mux_slots *slots, uint32_t cap)
{
    memset(slots, 0, sizeof *slots);
    slots->cap = cap;
    slots->free = MUX_NONE;
    size_t blocks = ((size_t)cap >> MUX_BLOCK_BITS) + 1;
    slots->blocks = mux_sys_allocate(blocks, sizeof *slots->blocks);
    return slots->blocks ? 0 : -ENOMEM;
}

void mux_slots_close(mux_slots *slots)
{
    for (uint32_t i = 0; i < slots->block_count; i++)
        mux_sys_free(slots->blocks[i]);
    mux_sys_free(slots->blocks);
    memset(slots, 0, sizeof *slots);
}

mux_slot *mux_slots_take(mux_slots *slots)
{
    mux_slot *slot;
    uint32_t index = slots->free;
    if (index != MUX_NONE) {
        slot = mux_slots_at(slots, index);
        slots->free = slot->next;
    } else {
        index = slots->used;
        if (index >= slots->cap)
            return NULL;
        if (index >> MUX_BLOCK_BITS >= slots->block_count) {
            mux_slot *block = mux_sys_allocate((size_t)1 << MUX_BLOCK_BITS, sizeof *block);
            if (!block)
                return NULL;
            slots->blocks[slots->block_count++] = block;
        }
        slots->used++;
        slot = mux_slots_at(slots, index);
    }
    uint32_t generation = slot->generation + 1;
    const size_t counts = offsetof(mux_slot, bytes_in), rest = offsetof(mux_slot, moved);
    memset(slot, 0, counts);
    MUX_SET_COUNT(slot->bytes_in, 0); /* somebody may be reading them, of the life before: moved.c */
    MUX_SET_COUNT(slot->bytes_out, 0);
    memset((char *)slot + rest, 0, sizeof *slot - rest);
    slot->index = index;
    slot->generation = generation;
    slot->handle = -1;
    slot->next = slot->peer = MUX_NONE;
    mux_slots_unlink(slot);
    return slot;
}

void mux_slots_unlink(mux_slot *slot)
{
    slot->moved_at = slot->half_closed_at = 0;
    slot->wheel_at = MUX_NO_BUCKET;
    slot->wheel_next = slot->wheel_prev = slot->todo_next = slot->todo_prev = MUX_NONE;
    slot->half_closed_next = slot->half_closed_prev = MUX_NONE;
}

void mux_slots_give_back(mux_slots *slots, mux_slot *slot)
{
    slot->state = MUX_FREE;
    slot->generation++;
    slot->next = slots->free;
    slots->free = slot->index;
}
