/* The scripted backend that does everything at once, and nothing that it was not asked for. */
#include <stdlib.h>
#include <string.h>

#include "scripted_peers.h"
#include "syscalls.h"

const bool script_is_late = false;
const char script_address[] = "peer";

static void memory_interest(mux_backend *backend, mux_slot *slot)
{
    (void)backend; /* it looks at slot->hold and the queue at every turn */
    (void)slot;
}

static ssize_t memory_send(mux_backend *backend, mux_slot *slot, const void *data, size_t size)
{
    return (ssize_t)script_take(script_of((scripted *)backend, slot->handle), data, size);
}

static void memory_detach(mux_backend *backend, mux_slot *slot)
{
    script_of((scripted *)backend, slot->handle)->id = 0;
    mux_sendq_clear(&slot->queue, backend->pool);
}

static void memory_release(mux_backend *backend, mux_slot *slot)
{
    peer *gone = script_of((scripted *)backend, slot->handle);
    gone->released = true;
    gone->reset = slot->abortive;
}

static bool accept_one(scripted *self, peer *listener, mux_slot *slot)
{
    peer *client = script_waiting(self, slot->handle);
    if ((!client && !listener->refusal) || !self->base.sink->may_accept(self->base.loop, slot))
        return false;
    listener->attempts++;
    if (listener->refusal) {
        self->base.sink->accept_failed(self->base.loop, slot, listener->refusal);
        return slot->hold; /* else the next will fail alike, for ever */
    }
    client->listener = 0;
    int handle = FIRST + (int)(client - self->peers);
    self->base.sink->accepted(self->base.loop, slot, handle, script_address, sizeof script_address - 1);
    return true;
}

static bool serve(scripted *self, peer *with)
{
    mux_loop *loop = self->base.loop;
    const mux_sink *sink = self->base.sink;
    mux_slot *slot = script_slot(self, with);
    if (!slot || sink->full(loop))
        return false;
    if (slot->state == MUX_LISTENER)
        return accept_one(self, with, slot);
    if (slot->state == MUX_CONNECTING) {
        sink->connected(loop, slot, with->refusal);
        return true;
    }
    if (slot->queue.size && with->window) {
        struct iovec parts[4];
        int count = mux_sendq_parts(&slot->queue, parts, 4);
        size_t sent = 0;
        for (int i = 0; i < count; i++)
            sent += script_take(with, parts[i].iov_base, parts[i].iov_len);
        sink->sent(loop, slot, (ssize_t)sent);
        return true;
    }
    if (slot->hold || with->lost)
        return false;
    mux_room room;
    size_t left = with->in_size - with->in_at;
    if ((!left && !with->error && !with->ended) || !sink->room(loop, slot, &room))
        return false;
    if (!left) {
        with->lost = true;
        sink->received(loop, slot, NULL, with->error ? -with->error : 0, false);
        return true;
    }
    size_t size = room.size < left ? room.size : left;
    memcpy(room.to, with->in + with->in_at, size);
    with->in_at += size;
    sink->received(loop, slot, room.to, (ssize_t)size, size < left);
    return true;
}

static int memory_turn(mux_backend *backend, int64_t timeout)
{
    scripted *self = (scripted *)backend;
    self->busy = self->woken;
    if (self->woken)
        backend->sink->woken(backend->loop);
    self->woken = false;
    int count = self->count;
    for (int i = 0; i < count; i++)
        self->busy = serve(self, &self->peers[i]) || self->busy;
    if (!self->busy && timeout > 0)
        mux_fault_clock += timeout;
    backend->sink->clock(backend->loop, true);
    return 1;
}

static bool memory_is_busy(const mux_backend *backend)
{
    const scripted *self = (const scripted *)backend;
    return self->busy || self->woken;
}

static void memory_close(mux_backend *backend)
{
    script_free((scripted *)backend);
}

static const mux_backend_ops ops = {
    .attach = script_attach,
    .connect = script_begin_connect,
    .interest = memory_interest,
    .send = memory_send,
    .shutdown_write = script_shutdown_write,
    .unacknowledged = script_unacknowledged,
    .detach = memory_detach,
    .release = memory_release,
    .descriptor = script_descriptor,
    .turn = memory_turn,
    .busy = memory_is_busy,
    .watched = script_watched,
    .close = memory_close,
};

scripted *script_open(mux_loop *loop)
{
    scripted *self = calloc(1, sizeof *self);
    self->base = mux_loop_host(loop);
    self->base.ops = &ops;
    mux_loop_set_backend(loop, &self->base);
    return self;
}
