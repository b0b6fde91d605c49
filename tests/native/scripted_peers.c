#include "scripted_peers.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

peer *script_of(const scripted *script, int handle)
{
    return (peer *)&script->peers[handle - FIRST];
}

int script_add(scripted *script)
{
    peer *made = &script->peers[script->count];
    made->in = malloc(ROOM);
    made->out = malloc(ROOM);
    made->window = ROOM;
    return FIRST + script->count++;
}

mux_slot *script_slot(const scripted *script, const peer *of)
{
    return mux_slots_find(script->base.slots, (uint32_t)of->id, (uint32_t)(of->id >> 32));
}

peer *script_waiting(scripted *script, int listener)
{
    for (int i = 0; i < script->count; i++)
        if (script->peers[i].listener == listener)
            return &script->peers[i];
    return NULL;
}

size_t script_take(peer *by, const void *data, size_t size)
{
    size_t fits = size < by->window ? size : by->window;
    memcpy(by->out + by->out_size, data, fits);
    by->out_size += fits;
    by->window -= fits;
    return fits;
}

void script_free(scripted *script)
{
    for (int i = 0; i < script->count; i++) {
        free(script->peers[i].in);
        free(script->peers[i].out);
    }
    free(script);
}

/* -- what both backends do alike */

int script_attach(mux_backend *backend, mux_slot *slot)
{
    script_of((scripted *)backend, slot->handle)->id = mux_slot_id(slot);
    return 0;
}

int script_begin_connect(mux_backend *backend, mux_slot *slot, const void *address, socklen_t size)
{
    scripted *self = (scripted *)backend;
    (void)address;
    (void)size;
    slot->handle = self->dialled = script_add(self);
    script_of(self, slot->handle)->refusal = self->unreachable;
    self->unreachable = 0;
    return script_attach(backend, slot);
}

int script_shutdown_write(mux_backend *backend, mux_slot *slot)
{
    script_of((scripted *)backend, slot->handle)->got_end = true;
    return 0;
}

bool script_unacknowledged(mux_backend *backend, mux_slot *slot)
{
    return script_of((scripted *)backend, slot->handle)->slow;
}

int script_descriptor(mux_backend *backend, const mux_slot *slot)
{
    (void)backend;
    (void)slot;
    return -EBADF;
}

int script_watched(const mux_backend *backend)
{
    (void)backend;
    return -ENOTSUP; /* there is no descriptor anywhere */
}

/* -- what a test does */

int script_listener(scripted *script)
{
    return script_add(script);
}

int script_peer(scripted *script)
{
    return script_add(script);
}

int script_connect(scripted *script, int listener)
{
    int handle = script_add(script);
    script_of(script, handle)->listener = listener;
    return handle;
}

int script_dialled(const scripted *script)
{
    return script->dialled;
}

void script_arrive(scripted *script, int handle, const char *bytes, size_t size)
{
    peer *to = script_of(script, handle);
    memcpy(to->in + to->in_size, bytes, size);
    to->in_size += size;
}

void script_end(scripted *script, int handle)
{
    script_of(script, handle)->ended = true;
}

void script_break(scripted *script, int handle, int error)
{
    script_of(script, handle)->error = error;
}

void script_window(scripted *script, int handle, size_t size)
{
    script_of(script, handle)->window = size;
}

void script_refuse(scripted *script, int listener, int error)
{
    script_of(script, listener)->refusal = error;
}

void script_unreachable(scripted *script, int error)
{
    script->unreachable = error;
}

void script_slow(scripted *script, int handle, bool slow)
{
    script_of(script, handle)->slow = slow;
}

void script_wake(scripted *script)
{
    script->woken = true;
}

/* -- what a test looks at */

const char *script_got(const scripted *script, int handle, size_t *size)
{
    *size = script_of(script, handle)->out_size;
    return script_of(script, handle)->out;
}

bool script_ended(const scripted *script, int handle)
{
    return script_of(script, handle)->got_end;
}

bool script_reset(const scripted *script, int handle)
{
    return script_of(script, handle)->reset;
}

bool script_released(const scripted *script, int handle)
{
    return script_of(script, handle)->released;
}

int script_attempts(const scripted *script, int listener)
{
    return script_of(script, listener)->attempts;
}

bool script_is_busy(const scripted *script)
{
    return script->busy;
}
