/* What moves the bytes, as the loop sees it: completions, not readiness.
 *
 * The loop tells a backend what it wants (attach, interest, send, …); the backend reports what has
 * happened (mux_on_received: "these bytes arrived in this buffer"; mux_on_sent: "so much of the queue is
 * gone"). Nothing above this line knows what a handle is: here it is a descriptor; an io_uring backend
 * may have none, and the one in tests/native has nothing at all.
 *
 * Rules:
 * - After detach() a backend reports nothing for that slot.
 * - Any mux_on_… may end a connection (MUX_LOST), but frees no slot: that happens between two turns.
 * - mux_on_buffer() may say NULL: the batch is full, or has data of this slot already; the bytes wait.
 */
#ifndef MUX_BACKEND_H
#define MUX_BACKEND_H

#include <sys/socket.h>
#include <sys/types.h>

#include "slots.h"

typedef struct mux_loop mux_loop;
typedef struct mux_backend mux_backend;
typedef struct mux_options mux_options;

typedef struct mux_backend_ops {
    int (*attach)(mux_backend *backend, mux_slot *slot); /* 0 or -errno */
    /* Give the slot a handle, and begin to connect it; mux_on_connected tells how that went, later. */
    int (*connect)(mux_backend *backend, mux_slot *slot, const void *address, socklen_t size);
    /* slot->hold, its state or its queue has changed. It cannot fail, and nothing comes of it before the next
     * turn: what is changed and changed back costs nothing. */
    void (*interest)(mux_backend *backend, mux_slot *slot);
    /* How much was taken at once; the rest is queued by the loop, and sent as the queue is. */
    ssize_t (*send)(mux_backend *backend, mux_slot *slot, const void *data, size_t size);
    int (*shutdown_write)(mux_backend *backend, mux_slot *slot); /* 0 or -errno */
    /* Whether the peer has yet to acknowledge something: a byte, or our FIN. */
    bool (*unacknowledged)(mux_backend *backend, mux_slot *slot);
    void (*detach)(mux_backend *backend, mux_slot *slot);
    void (*release)(mux_backend *backend, mux_slot *slot); /* give the handle back; after detach;
                                                              slot->abortive: reset the connection */
    /* One wait of at most `timeout` ns (0: none, -1: for ever), and what it brought. Returns -errno, or whether
     * all that had happened by then was reported: if not, nobody's deadline is to be kept yet. */
    int (*turn)(mux_backend *backend, int64_t timeout);
    void (*close)(mux_backend *backend);
} mux_backend_ops;

struct mux_backend {
    const mux_backend_ops *ops;
    mux_loop *loop;
};

/* What the loop answers; in loop.c, connection.c, connect.c and listener.c. */
mux_slots *mux_loop_slots(mux_loop *loop);
bool mux_may_wait(const mux_loop *loop); /* nothing has happened that somebody has yet to hear of */
bool mux_batch_full(const mux_loop *loop); /* no room for what one more connection may bring */
char *mux_on_buffer(mux_loop *loop, const mux_slot *slot, size_t *size);
/* `size`: bytes, 0 at the peer's EOF, or -errno; `more`: others may wait. */
void mux_on_received(mux_loop *loop, mux_slot *slot, const char *buffer, ssize_t size, bool more);
void mux_on_sent(mux_loop *loop, mux_slot *slot, ssize_t size);                         /* or -errno */
bool mux_may_accept(mux_loop *loop, mux_slot *listener);
void mux_on_accepted(mux_loop *loop, mux_slot *listener, int handle, const void *peer, socklen_t size);
void mux_on_accept_failed(mux_loop *loop, mux_slot *listener, int error);
void mux_on_connected(mux_loop *loop, mux_slot *slot, int error);
void mux_on_woken(mux_loop *loop);
/* Time has passed: after each wait, before what it brought; `told`: all that had happened by then. */
void mux_on_waited(mux_loop *loop, bool told);
/* Whether this process is a fork of the loop's: what the two share is not to be touched. */
bool mux_loop_forked(const mux_loop *loop);

/* epoll(7), Linux 2.6.9. NULL: *failed names the call, *error is its errno. */
mux_backend *mux_epoll_open(mux_loop *loop, const mux_options *options, const char **failed, int *error);

#endif
