/* What the two files of the epoll backend share. */
#ifndef MUX_BACKEND_EPOLL_H
#define MUX_BACKEND_EPOLL_H

#include <errno.h>

#include "backend.h"
#include "syscalls.h"
#include "todo.h"

#define EVENTS 512 /* one wait's; 6 KiB, and one system call is shared by as many messages */

/* slot->todo: interest has changed; receiving, or accepting, stopped early; sending did; an error was told */
enum { WATCH = 1, READ_ON = 2, SEND_ON = 4, BROKEN = 8 };

typedef struct mux_epoll {
    mux_backend base;
    unsigned forks; /* of this process when it was opened */
    int epoll, wake;
    int retired;             /* the set before this one: another loop may watch it until it has asked; or -1 */
    bool edge;
    uint32_t reads, accepts; /* of one connection, of one listener, in one turn */
    uint32_t grant;          /* accepts of this turn: an accept(2) that finds nobody is half the cost of one */
    bool used_up;            /* there may be more, who are asked for in the next one */
    unsigned stale;          /* waits in a row */
    bool good;               /* this wait's events were not all stale */
    uint32_t behind;         /* turns in a row that left something for the next */
    int cursor, ready;       /* events[cursor..ready) are still to be looked at */
    mux_todo todo;
    struct epoll_event events[EVENTS];
} mux_epoll;

/* Do what `events` says can be done, as far as the slot's holds, the batch and the budgets allow. */
void mux_epoll_ready(mux_epoll *self, mux_slot *slot, uint32_t events);

static inline ssize_t mux_epoll_send(const mux_slot *slot, const struct iovec *parts, int count)
{
    ssize_t sent;
    do
        sent = mux_sys_send(slot->handle, parts, count);
    while (sent == -EINTR); /* under an edge trigger nobody would come back for what it left */
    return sent;
}

#endif
