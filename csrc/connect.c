/* Connections that we open: from connect(2) until Python makes a transport of one, or drops it.
 *
 * A slot on its way is held, has no deadline (Python keeps that), and is Python's to release if it fails.
 */
#include "connect.h"

#include <errno.h>

#include "connection.h"
#include "loop.h"

int64_t mux_connect(mux_loop *loop, const void *address, size_t size, uint32_t *generation)
{
    if (mux_loop_foreign(loop))
        return -EPERM;
    if (loop->stats->outgoing >= loop->options.connections)
        return -EAGAIN;
    mux_slot *slot = mux_slots_take(&loop->slots);
    if (!slot)
        return -ENOMEM;
    slot->state = MUX_CONNECTING;
    slot->seen = slot->outgoing = true;
    slot->hold = MUX_HOLD_PYTHON;
    slot->high = loop->options.high;
    slot->low = loop->options.low;
    int failed = loop->backend->ops->connect(loop->backend, slot, address, (socklen_t)size);
    if (failed) {
        mux_slots_give_back(&loop->slots, slot);
        return failed;
    }
    MUX_COUNT(loop->stats->outgoing, 1);
    *generation = slot->generation;
    return slot->index;
}

void mux_on_connected(mux_loop *loop, mux_slot *slot, int error)
{
    if (error) {
        mux_conn_become(loop, slot, MUX_LOST);
        slot->told = true; /* by the event below */
        loop->backend->ops->detach(loop->backend, slot);
    } else {
        slot->moved_at = loop->now;
        mux_conn_become(loop, slot, MUX_OPEN);
        loop->backend->ops->interest(loop->backend, slot);
    }
    mux_batch_add(&loop->batch, slot->index, MUX_EV_CONNECTED, error);
}
