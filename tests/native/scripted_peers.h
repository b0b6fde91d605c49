/* The peers of both scripted backends: what they have sent, what they got, how much more they take. */
#ifndef SCRIPTED_PEERS_H
#define SCRIPTED_PEERS_H

#include "scripted_backend.h"
#include "todo.h"

#define PEERS 256
#define FIRST 1000000 /* no descriptor has such a number: whoever takes a handle for one gets EBADF */
#define ROOM (1 << 20)

typedef struct late late; /* late_backend.c: what is on its way */

typedef struct peer {
    uint64_t id; /* of its slot; 0: not attached */
    char *in, *out;
    size_t in_at, in_size, out_size, window;
    int listener; /* that it has come to and that has not accepted it yet; 0: none */
    int refusal, attempts; /* of a listener */
    int error;
    bool ended, got_end, released, lost, reset, slow;
    late *late;
} peer;

struct scripted {
    mux_backend base;
    peer peers[PEERS];
    int count, unreachable, dialled;
    bool woken;
    bool busy; /* something happened in the last turn, or is on its way */
    mux_todo todo; /* late_backend.c */
};

peer *script_of(const scripted *script, int handle);
int script_add(scripted *script);
mux_slot *script_slot(const scripted *script, const peer *of); /* NULL: none, any more */
peer *script_waiting(scripted *script, int listener);            /* who is the next to be accepted, or NULL */
size_t script_take(peer *by, const void *data, size_t size);   /* how much it takes of what is sent to it */
void script_free(scripted *script);

/* What both backends do alike. */
int script_attach(mux_backend *backend, mux_slot *slot);
int script_begin_connect(mux_backend *backend, mux_slot *slot, const void *address, socklen_t size);
int script_shutdown_write(mux_backend *backend, mux_slot *slot);
bool script_unacknowledged(mux_backend *backend, mux_slot *slot);
int script_descriptor(mux_backend *backend, const mux_slot *slot);
int script_watched(const mux_backend *backend);

#endif
