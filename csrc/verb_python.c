/* No verb: the bytes go to Python, as events. */
#include "connection.h"
#include "verb.h"

static void received(mux_loop *loop, mux_slot *slot, const char *bytes, size_t size)
{
    mux_batch_add(&loop->batch, slot->index, MUX_EV_DATA, (int32_t)size);
    mux_batch_bytes(&loop->batch, bytes, size);
    slot->delivered = loop->batch.serial;
}

static void ended(mux_loop *loop, mux_slot *slot)
{
    if (slot->seen)
        mux_batch_add(&loop->batch, slot->index, MUX_EV_EOF, 0);
    else
        mux_conn_close(loop, slot);
}

static void sent(mux_loop *loop, mux_slot *slot, bool relieved)
{
    if (slot->seen && (relieved || !slot->queue.size))
        mux_batch_add(&loop->batch, slot->index, MUX_EV_DRAINED, (int32_t)slot->queue.size);
}

const mux_verb_ops mux_verb_python = {
    .into = MUX_INTO_BATCH,
    .received = received,
    .ended = ended,
    .sent = sent,
};
