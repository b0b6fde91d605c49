#include "memory_backend.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "syscalls.h"

#define PEERS 256
#define FIRST 1000000 /* no descriptor has such a number: whoever takes a handle for one gets EBADF */
#define ROOM (1 << 20)

typedef struct peer {
    uint64_t id; /* of its slot; 0: not attached */
    char *in, *out;
    size_t in_at, in_size, out_size, window;
    int waiting, refusal, attempts; /* of a listener */
    int error;
    bool ended, got_end, released, lost, reset, slow;
} peer;

struct memory_backend {
    mux_backend base;
    peer peers[PEERS];
    int count, unreachable;
    bool woken;
};

static peer *of(const memory_backend *memory, int handle)
{
    return (peer *)&memory->peers[handle - FIRST];
}

static int add(memory_backend *memory)
{
    peer *made = &memory->peers[memory->count];
    made->in = malloc(ROOM);
    made->out = malloc(ROOM);
    made->window = ROOM;
    return FIRST + memory->count++;
}

int memory_listener(memory_backend *memory)
{
    return add(memory);
}

int memory_peer(memory_backend *memory)
{
    return add(memory);
}

int memory_connect(memory_backend *memory, int listener)
{
    of(memory, listener)->waiting++;
    return FIRST + memory->count + of(memory, listener)->waiting - 1;
}

void memory_arrive(memory_backend *memory, int handle, const char *bytes, size_t size)
{
    peer *to = of(memory, handle);
    memcpy(to->in + to->in_size, bytes, size);
    to->in_size += size;
}

void memory_end(memory_backend *memory, int handle)
{
    of(memory, handle)->ended = true;
}

void memory_break(memory_backend *memory, int handle, int error)
{
    of(memory, handle)->error = error;
}

void memory_window(memory_backend *memory, int handle, size_t size)
{
    of(memory, handle)->window = size;
}

void memory_refuse(memory_backend *memory, int listener, int error)
{
    of(memory, listener)->refusal = error;
}

void memory_unreachable(memory_backend *memory, int error)
{
    memory->unreachable = error;
}

void memory_wake(memory_backend *memory)
{
    memory->woken = true;
}

const char *memory_got(const memory_backend *memory, int handle, size_t *size)
{
    *size = of(memory, handle)->out_size;
    return of(memory, handle)->out;
}

bool memory_ended(const memory_backend *memory, int handle)
{
    return of(memory, handle)->got_end;
}

bool memory_reset(const memory_backend *memory, int handle)
{
    return of(memory, handle)->reset;
}

bool memory_released(const memory_backend *memory, int handle)
{
    return of(memory, handle)->released;
}

int memory_attempts(const memory_backend *memory, int listener)
{
    return of(memory, listener)->attempts;
}

void memory_slow(memory_backend *memory, int handle, bool slow)
{
    of(memory, handle)->slow = slow;
}

static ssize_t take(peer *by, const void *data, size_t size)
{
    size_t fits = size < by->window ? size : by->window;
    memcpy(by->out + by->out_size, data, fits);
    by->out_size += fits;
    by->window -= fits;
    return (ssize_t)fits;
}

static int memory_attach(mux_backend *backend, mux_slot *slot)
{
    of((memory_backend *)backend, slot->handle)->id = mux_slot_id(slot);
    return 0;
}

static int memory_begin_connect(mux_backend *backend, mux_slot *slot, const void *address, socklen_t size)
{
    memory_backend *memory = (memory_backend *)backend;
    (void)address;
    (void)size;
    slot->handle = add(memory);
    of(memory, slot->handle)->refusal = memory->unreachable;
    memory->unreachable = 0;
    return memory_attach(backend, slot);
}

static void memory_interest(mux_backend *backend, mux_slot *slot)
{
    (void)backend; /* it looks at slot->hold and the queue at every turn */
    (void)slot;
}

static ssize_t memory_send(mux_backend *backend, mux_slot *slot, const void *data, size_t size)
{
    return take(of((memory_backend *)backend, slot->handle), data, size);
}

static int memory_shutdown_write(mux_backend *backend, mux_slot *slot)
{
    of((memory_backend *)backend, slot->handle)->got_end = true;
    return 0;
}

static bool memory_unacknowledged(mux_backend *backend, mux_slot *slot)
{
    return of((memory_backend *)backend, slot->handle)->slow;
}

static void memory_detach(mux_backend *backend, mux_slot *slot)
{
    of((memory_backend *)backend, slot->handle)->id = 0;
}

static void memory_release(mux_backend *backend, mux_slot *slot)
{
    peer *gone = of((memory_backend *)backend, slot->handle);
    gone->released = true;
    gone->reset = slot->abortive;
}

static bool accept_one(memory_backend *memory, peer *listener, mux_slot *slot)
{
    if (!listener->waiting && !listener->refusal)
        return false;
    if (slot->hold || !mux_may_accept(memory->base.loop, slot))
        return false;
    listener->attempts++;
    if (listener->refusal) {
        mux_on_accept_failed(memory->base.loop, slot, listener->refusal);
        return true;
    }
    listener->waiting--;
    mux_on_accepted(memory->base.loop, slot, add(memory), "peer", 4);
    return true;
}

static bool serve(memory_backend *memory, peer *with)
{
    mux_loop *loop = memory->base.loop;
    const mux_slots *slots = mux_loop_slots(loop);
    mux_slot *slot = mux_slots_find(slots, (uint32_t)with->id, (uint32_t)(with->id >> 32));
    if (!slot || mux_batch_full(loop))
        return false;
    if (slot->state == MUX_LISTENER)
        return accept_one(memory, with, slot);
    if (slot->state == MUX_CONNECTING) {
        mux_on_connected(loop, slot, with->refusal);
        return true;
    }
    if (slot->queue.size && with->window) {
        struct iovec parts[4];
        int count = mux_sendq_parts(&slot->queue, parts, 4);
        ssize_t sent = 0;
        for (int i = 0; i < count; i++)
            sent += take(with, parts[i].iov_base, parts[i].iov_len);
        mux_on_sent(loop, slot, sent);
        return true;
    }
    if (slot->hold || with->lost)
        return false;
    size_t size, left = with->in_size - with->in_at;
    if (!left && !with->error && !with->ended)
        return false;
    char *buffer = mux_on_buffer(loop, slot, &size);
    if (!buffer)
        return false;
    if (!left) {
        with->lost = true;
        mux_on_received(loop, slot, buffer, with->error ? -with->error : 0, false);
        return true;
    }
    size = size < left ? size : left;
    memcpy(buffer, with->in + with->in_at, size);
    with->in_at += size;
    mux_on_received(loop, slot, buffer, (ssize_t)size, size < left);
    return true;
}

static int memory_turn(mux_backend *backend, int64_t timeout)
{
    memory_backend *memory = (memory_backend *)backend;
    bool any = memory->woken;
    if (memory->woken)
        mux_on_woken(backend->loop);
    memory->woken = false;
    int count = memory->count;
    for (int i = 0; i < count; i++)
        if (memory->peers[i].id)
            any = serve(memory, &memory->peers[i]) || any;
    if (!any && timeout > 0)
        mux_fault_clock += timeout;
    mux_on_waited(backend->loop, true);
    return 1;
}

static void memory_close(mux_backend *backend)
{
    memory_backend *memory = (memory_backend *)backend;
    for (int i = 0; i < memory->count; i++) {
        free(memory->peers[i].in);
        free(memory->peers[i].out);
    }
    free(memory);
}

static const mux_backend_ops ops = {
    .attach = memory_attach,
    .connect = memory_begin_connect,
    .interest = memory_interest,
    .send = memory_send,
    .shutdown_write = memory_shutdown_write,
    .unacknowledged = memory_unacknowledged,
    .detach = memory_detach,
    .release = memory_release,
    .turn = memory_turn,
    .close = memory_close,
};

memory_backend *memory_open(mux_loop *loop)
{
    memory_backend *memory = calloc(1, sizeof *memory);
    memory->base.ops = &ops;
    memory->base.loop = loop;
    mux_loop_set_backend(loop, &memory->base);
    return memory;
}
