/* What moves the bytes, as the loop sees it: completions, not readiness.
 *
 * The loop tells a backend what it wants (attach, interest, send, …); the backend reports what has
 * happened (received: "these bytes have arrived"; sent: "so much of the queue is gone"). Nothing above this
 * line knows what a handle is: here it is a descriptor; an io_uring backend may have none, and those in
 * tests/native have nothing at all.
 *
 * Who owns what:
 * - What `send` is given stays where it is only until it returns. To take nothing (0) always works: the
 *   loop queues the bytes. What is in slot->queue stays where it is until `sent`, and detach() gives the
 *   whole queue to the backend: the kernel may still read it.
 * - Bytes that have arrived may lie anywhere until `received` returns.
 * - A slot is used again as soon as it is released: what is still on its way is the backend's to remember,
 *   and the handle is not to be used again before it is closed.
 *
 * Who asks whom:
 * - After detach() a backend reports nothing for that slot.
 * - Before each report it asks whether the batch is full, and where a receive is to go. Where the answer is
 *   no, or `received` or `accepted` says so, what has come already is kept by the backend. It is offered
 *   again after interest(), or, if no hold keeps it back, in the next turn.
 * - Any report may end a connection (MUX_LOST), but frees no slot: that happens between two turns.
 */
#ifndef MUX_BACKEND_H
#define MUX_BACKEND_H

#include <sys/socket.h>
#include <sys/types.h>

#include "options.h"
#include "slots.h"

typedef struct mux_loop mux_loop;
typedef struct mux_backend mux_backend;

typedef struct mux_backend_ops {
    int (*attach)(mux_backend *backend, mux_slot *slot); /* 0 or -errno */
    /* Give the slot a handle, and begin to connect it; `connected` tells how that went, later. */
    int (*connect)(mux_backend *backend, mux_slot *slot, const void *address, socklen_t size);
    /* slot->hold, its state or its queue has changed. It cannot fail, and nothing comes of it before the next
     * turn: what is changed and changed back costs nothing. */
    void (*interest)(mux_backend *backend, mux_slot *slot);
    /* How much was taken at once; the rest is queued by the loop, and sent as the queue is. Or -errno. */
    ssize_t (*send)(mux_backend *backend, mux_slot *slot, const void *data, size_t size);
    /* All that was queued has gone: our FIN is to follow. 0 or -errno; trouble may be reported later. */
    int (*shutdown_write)(mux_backend *backend, mux_slot *slot);
    /* Whether the peer has yet to acknowledge something: a byte, or our FIN. */
    bool (*unacknowledged)(mux_backend *backend, mux_slot *slot);
    /* Report nothing any more; take the queue, and give its chunks back once nobody reads them. */
    void (*detach)(mux_backend *backend, mux_slot *slot);
    /* Begin to give the handle back; after detach. slot->abortive: reset the connection. */
    void (*release)(mux_backend *backend, mux_slot *slot);
    int (*descriptor)(mux_backend *backend, const mux_slot *slot); /* or -errno: it has none */
    /* Give an open connection away, for another backend of its kind to attach: report nothing of it any more,
     * and return the handle. The queue stays in the slot. Asked where a loop gives pairs to movers, and nowhere else. */
    int (*give)(mux_backend *backend, mux_slot *slot);
    /* One wait of at most `timeout` ns (0: none, -1: for ever), and what it brought. Returns -errno, or whether
     * all that had happened by then was reported: if not, nobody's deadline is to be kept yet. */
    int (*turn)(mux_backend *backend, int64_t timeout);
    /* Whether a turn would do something that `watched` does not show. */
    bool (*busy)(const mux_backend *backend);
    /* A descriptor, readable while a wait would bring something; or -errno. It is another one where the backend
     * says so by being busy, and is closed in the turn after that. */
    int (*watched)(const mux_backend *backend);
    void (*close)(mux_backend *backend); /* nothing is on its way afterwards */
} mux_backend_ops;

/* Where a receive goes. */
typedef struct mux_room {
    char *to;
    size_t size;
    bool drop; /* nobody will look at the bytes: they need not go anywhere */
} mux_room;

/* What the loop answers. */
typedef struct mux_sink {
    bool (*may_wait)(const mux_loop *loop); /* nothing has happened that somebody has yet to hear of */
    bool (*full)(const mux_loop *loop);     /* no room for what one more connection may bring */
    /* False: the batch is full, or has data of this slot already, or its rates have nothing for it, which holds it;
     * the bytes wait. */
    bool (*room)(mux_loop *loop, mux_slot *slot, mux_room *room);
    /* `size`: bytes, at most what there was room for; 0 at the peer's EOF; or -errno, which is always taken.
     * `more`: others may wait. False: not now. */
    bool (*received)(mux_loop *loop, mux_slot *slot, const char *bytes, ssize_t size, bool more);
    void (*sent)(mux_loop *loop, mux_slot *slot, ssize_t size); /* so much of the queue; or -errno */
    bool (*may_accept)(mux_loop *loop, mux_slot *listener);
    /* A new connection, and its peer's address; `size` 0: that is not known. False: not now. */
    bool (*accepted)(mux_loop *loop, mux_slot *listener, int handle, const void *peer, socklen_t size);
    void (*accept_failed)(mux_loop *loop, mux_slot *listener, int error);
    void (*connected)(mux_loop *loop, mux_slot *slot, int error);
    void (*woken)(mux_loop *loop);
    /* Time has passed: after each wait, before what it brought; `told`: all that had happened by then. */
    void (*clock)(mux_loop *loop, bool told);
} mux_sink;

struct mux_backend {
    const mux_backend_ops *ops;
    /* Whom it works for: mux_loop_host fills these in. */
    mux_loop *loop;
    const mux_sink *sink;
    mux_slots *slots;
    mux_pool *pool; /* where the chunks of a queue go back to */
};

/* epoll(7), Linux 2.6.9. NULL: *failed names the call, *error is its errno. */
mux_backend *mux_epoll_open(mux_backend host, const mux_options *options, const char **failed, int *error);

#endif
