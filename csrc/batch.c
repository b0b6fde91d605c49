#include "batch.h"

#include <errno.h>

#include "syscalls.h"

int mux_batch_open(mux_batch *batch)
{
    memset(batch, 0, sizeof *batch);
    batch->ended_first = batch->ended_last = MUX_NONE;
    batch->events = mux_sys_allocate(MUX_EVENTS, sizeof *batch->events);
    batch->arena = mux_sys_pages(MUX_ARENA);
    return batch->events && batch->arena ? 0 : -ENOMEM;
}

void mux_batch_close(mux_batch *batch)
{
    mux_sys_free(batch->events);
    mux_sys_free(batch->arena);
}

void mux_batch_begin(mux_batch *batch)
{
    batch->count = 0;
    batch->used = 0;
    batch->serial = batch->serial + 1 ? batch->serial + 1 : 1;
}

void mux_batch_ended(mux_batch *batch, const mux_slots *slots, mux_slot *slot)
{
    slot->next = MUX_NONE;
    if (batch->ended_first == MUX_NONE)
        batch->ended_first = slot->index;
    else
        mux_slots_at(slots, batch->ended_last)->next = slot->index;
    batch->ended_last = slot->index;
}
