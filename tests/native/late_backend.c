/* The scripted backend in which everything is late, as with a ring of completions.
 *
 * - `send` takes nothing. What is queued is sent turns later, from the queue's own memory, all of it or as much
 *   as the peer takes; whatever is given back to the pool meanwhile is written over, and a send whose bytes
 *   have changed under it ends the program.
 * - What arrives is received into a buffer of the backend's own, held or not, and offered until it is taken.
 * - Clients are accepted at the cap and while the listener rests, and nobody knows their address.
 * - After detach a send is still on its way; a handle is closed turns after its release.
 * - Nothing is sent, and nothing that was declined under a hold is offered again, before interest() names it.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "scripted_peers.h"
#include "syscalls.h"

#define LATE 2    /* turns that an operation takes */
#define SCRIBBLE 4096 /* bytes of each chunk in the pool */
#define POOLED 64 /* so many of its chunks at most: as many as sendq.c keeps */
#define PARTS 4

const bool script_is_late = true;
const char script_address[] = "";

enum { LOOK = 1 }; /* slot->todo */

struct late {
    char *own; /* what was received; [own_at, own_size) was not taken yet */
    size_t own_at, own_size;
    bool parked; /* declined under a hold: not to be offered before interest() */
    int receiving, connecting, accepting, releasing; /* turns left; 0: not on its way */
    int sending;
    struct iovec parts[PARTS];
    int part_count;
    unsigned sum; /* of those bytes */
    mux_sendq left; /* the queue of a slot that is gone, while its send is on its way */
    int accepted[PEERS], accepted_count; /* of a listener: handles that were not taken yet */
    bool abortive;
};

static late *of(scripted *self, int handle)
{
    return script_of(self, handle)->late;
}

/* -- memory that the kernel may read */

static unsigned sum_of(const struct iovec *parts, int count)
{
    unsigned sum = 1;
    for (int i = 0; i < count; i++)
        for (size_t at = 0; at < parts[i].iov_len; at++)
            sum = sum * 31 + ((const unsigned char *)parts[i].iov_base)[at];
    return sum;
}

static void unchanged(const late *it)
{
    if (sum_of(it->parts, it->part_count) == it->sum)
        return;
    fprintf(stderr, "the bytes of a send have changed while it was on its way\n");
    exit(1);
}

/* Whoever gave a chunk back too early has lost its bytes. */
static void scribble(mux_pool *pool)
{
    static const char noise[SCRIBBLE] = {'?'};
    mux_sendq queues[POOLED] = {{0}};
    int count = pool->count < POOLED ? (int)pool->count : POOLED;
    for (int i = 0; i < count; i++)
        if (mux_sendq_append(&queues[i], pool, noise, sizeof noise))
            exit(1);
    for (int i = 0; i < count; i++)
        mux_sendq_clear(&queues[i], pool);
}

/* -- what the loop asks for */

static void late_interest(mux_backend *backend, mux_slot *slot)
{
    if (!mux_slot_is_dead(slot))
        mux_todo_add(&((scripted *)backend)->todo, slot, LOOK);
}

static int late_attach(mux_backend *backend, mux_slot *slot)
{
    scripted *self = (scripted *)backend;
    peer *with = script_of(self, slot->handle);
    with->late = calloc(1, sizeof *with->late);
    with->late->own = malloc(ROOM);
    return script_attach(backend, slot);
}

static int late_connect(mux_backend *backend, mux_slot *slot, const void *address, socklen_t size)
{
    (void)script_begin_connect(backend, slot, address, size);
    (void)late_attach(backend, slot);
    of((scripted *)backend, slot->handle)->connecting = LATE;
    return 0;
}

static ssize_t late_send(mux_backend *backend, mux_slot *slot, const void *data, size_t size)
{
    (void)backend, (void)slot, (void)data, (void)size;
    return 0;
}

static void late_detach(mux_backend *backend, mux_slot *slot)
{
    scripted *self = (scripted *)backend;
    late *it = of(self, slot->handle);
    (void)mux_todo_remove(&self->todo, slot);
    script_of(self, slot->handle)->id = 0;
    it->left = slot->queue;
    slot->queue = (mux_sendq){0};
    if (!it->sending)
        mux_sendq_clear(&it->left, backend->pool);
    for (int i = 0; i < it->accepted_count; i++) /* of a listener that is no more */
        script_of(self, it->accepted[i])->released = true;
    it->accepted_count = 0;
}

static void late_release(mux_backend *backend, mux_slot *slot)
{
    scripted *self = (scripted *)backend;
    late *it = of(self, slot->handle);
    it->abortive = slot->abortive;
    it->releasing = LATE;
}

/* -- what comes of it, later; each says whether something has happened, or will by itself */

static bool passes(int *turns)
{
    return *turns && --*turns > 0;
}

static void begin_send(late *it, const mux_slot *slot)
{
    it->part_count = mux_sendq_parts(&slot->queue, it->parts, PARTS);
    it->sum = sum_of(it->parts, it->part_count);
    it->sending = LATE + 1;
}

static bool send_on(scripted *self, peer *with, mux_slot *slot)
{
    late *it = with->late;
    if (it->sending > 1)
        return --it->sending;
    if (!it->sending)
        return false;
    unchanged(it);
    if (!slot) { /* cancelled, and only now over */
        it->sending = 0;
        mux_sendq_clear(&it->left, self->base.pool);
        return true;
    }
    if (!with->window)
        return false; /* it stays on its way until the peer takes something */
    if (self->base.sink->full(self->base.loop))
        return true;
    size_t sent = 0;
    for (int i = 0; i < it->part_count; i++)
        sent += script_take(with, it->parts[i].iov_base, it->parts[i].iov_len);
    it->sending = 0;
    self->base.sink->sent(self->base.loop, slot, (ssize_t)sent);
    if (!mux_slot_is_dead(slot) && slot->queue.size)
        begin_send(it, slot);
    return true;
}

static bool release_on(peer *with)
{
    late *it = with->late;
    if (!it->releasing || it->sending)
        return false;
    if (!passes(&it->releasing)) {
        with->released = true;
        with->reset = it->abortive;
    }
    return true;
}

static bool connect_on(scripted *self, peer *with, mux_slot *slot)
{
    late *it = with->late;
    if (!passes(&it->connecting)) {
        it->connecting = self->base.sink->full(self->base.loop);
        if (!it->connecting)
            self->base.sink->connected(self->base.loop, slot, with->refusal);
    }
    return true;
}

static bool accept_on(scripted *self, peer *listener, mux_slot *slot)
{
    const mux_sink *sink = self->base.sink;
    late *it = listener->late;
    peer *client = script_waiting(self, slot->handle);
    bool any = client && !listener->refusal;
    if (any) { /* whether the loop has room or not */
        client->listener = 0;
        it->accepted[it->accepted_count++] = FIRST + (int)(client - self->peers);
        it->accepting = LATE;
    }
    if (it->accepting) {
        it->accepting--;
        return true;
    }
    if (it->parked)
        return any;
    if (listener->refusal && !slot->hold && !sink->full(self->base.loop)) {
        listener->attempts++;
        sink->accept_failed(self->base.loop, slot, listener->refusal);
        return any || slot->hold; /* else the next will fail alike, for ever */
    }
    while (it->accepted_count) {
        if (!sink->accepted(self->base.loop, slot, it->accepted[0], NULL, 0)) {
            it->parked = slot->hold;
            return any || !it->parked;
        }
        listener->attempts++;
        memmove(it->accepted, it->accepted + 1, (size_t)--it->accepted_count * sizeof *it->accepted);
        any = true;
    }
    return any;
}

/* Offer what was received, as one completion after the other; returns whether the rest may go on by itself. */
static bool offer(scripted *self, peer *with, mux_slot *slot, bool more)
{
    const mux_sink *sink = self->base.sink;
    late *it = with->late;
    for (size_t left; (left = it->own_size - it->own_at) && !mux_slot_is_dead(slot); it->own_at += left) {
        mux_room room;
        const size_t all = left;
        if (sink->full(self->base.loop))
            return true;
        if (sink->room(self->base.loop, slot, &room) && room.size < left)
            left = room.size; /* where there is none it is offered all the same: the loop has to say no */
        if (!sink->received(self->base.loop, slot, it->own + it->own_at, (ssize_t)left, more || left < all)) {
            it->parked = slot->hold;
            return !it->parked;
        }
    }
    it->own_at = it->own_size = 0;
    return true;
}

/* Its EOF, or how it broke: it could be told, but what a hold keeps back stays in order. */
static bool offer_end(scripted *self, peer *with, mux_slot *slot)
{
    const mux_sink *sink = self->base.sink;
    if (sink->full(self->base.loop))
        return true;
    with->lost = (!with->error || !slot->hold) &&
                 sink->received(self->base.loop, slot, NULL, with->error ? -with->error : 0, false);
    with->late->parked = !with->lost && slot->hold;
    return !with->late->parked;
}

static bool receive_on(scripted *self, peer *with, mux_slot *slot)
{
    late *it = with->late;
    size_t arrived = with->in_size - with->in_at;
    if (arrived && !it->receiving)
        it->receiving = LATE + 1;
    if (passes(&it->receiving))
        return true;
    if (arrived && it->own_size + arrived <= ROOM) { /* held or not */
        memcpy(it->own + it->own_size, with->in + with->in_at, arrived);
        with->in_at += arrived;
        it->own_size += arrived;
        arrived = 0;
    }
    if (it->parked || with->lost)
        return false;
    if (it->own_size)
        return offer(self, with, slot, arrived);
    return (with->error || with->ended) && offer_end(self, with, slot);
}

static bool go_on(scripted *self, peer *with)
{
    mux_slot *slot = script_slot(self, with);
    bool any = false;
    if (!with->late)
        return false;
    if (slot && slot->state == MUX_LISTENER)
        return accept_on(self, with, slot);
    if (slot && slot->state == MUX_CONNECTING)
        return connect_on(self, with, slot);
    any = send_on(self, with, slot);
    any = release_on(with) || any;
    slot = script_slot(self, with);
    return (slot && receive_on(self, with, slot)) || any;
}

static int late_turn(mux_backend *backend, int64_t timeout)
{
    scripted *self = (scripted *)backend;
    scribble(backend->pool);
    self->busy = self->woken;
    if (self->woken)
        backend->sink->woken(backend->loop);
    self->woken = false;
    for (uint32_t count = self->todo.count; count; count--) {
        mux_slot *slot = mux_todo_first(&self->todo);
        late *it = of(self, slot->handle);
        (void)mux_todo_remove(&self->todo, slot);
        it->parked = false;
        self->busy = true;
        if (slot->queue.size && !it->sending)
            begin_send(it, slot);
    }
    int count = self->count;
    for (int i = 0; i < count; i++)
        self->busy = go_on(self, &self->peers[i]) || self->busy;
    if (!self->busy && timeout > 0)
        mux_fault_clock += timeout;
    backend->sink->clock(backend->loop, true);
    return !self->busy;
}

static bool late_is_busy(const mux_backend *backend)
{
    const scripted *self = (const scripted *)backend;
    return self->busy || self->woken || self->todo.count;
}

static void late_close(mux_backend *backend)
{
    scripted *self = (scripted *)backend;
    scribble(backend->pool);
    for (int i = 0; i < self->count; i++) {
        late *it = self->peers[i].late;
        if (!it)
            continue;
        if (it->sending)
            unchanged(it);
        mux_sendq_clear(&it->left, backend->pool);
        free(it->own);
        free(it);
    }
    script_free(self);
}

static const mux_backend_ops ops = {
    .attach = late_attach,
    .connect = late_connect,
    .interest = late_interest,
    .send = late_send,
    .shutdown_write = script_shutdown_write,
    .unacknowledged = script_unacknowledged,
    .detach = late_detach,
    .release = late_release,
    .descriptor = script_descriptor,
    .turn = late_turn,
    .busy = late_is_busy,
    .watched = script_watched,
    .close = late_close,
};

scripted *script_open(mux_loop *loop)
{
    scripted *self = calloc(1, sizeof *self);
    self->base = mux_loop_host(loop);
    self->base.ops = &ops;
    mux_todo_open(&self->todo, self->base.slots);
    mux_loop_set_backend(loop, &self->base);
    return self;
}
