/* What epoll says of one descriptor, done: receive, send, accept.
 *
 * - Under an edge trigger, data and FIN that arrive together are one event, and a receive stops short at
 *   urgent data (tcp(7)). A short receive says that the socket is empty only if the event carried no RDHUP,
 *   HUP, ERR or PRI. (Under a level trigger PRI would spin: it lasts until more than the urgent byte comes.)
 * - Under an edge trigger whoever stops early must come back by himself: todo.h.
 */
#include "backend_epoll.h"

#include <netinet/in.h>

#define PARTS 16 /* chunks in one sendmsg: 256 KiB, as much as a socket takes at once */
#define SENDS 4  /* of one connection in a turn: 1 MiB takes about 0.3 ms, and others wait meanwhile */
#define ENDED (EPOLLRDHUP | EPOLLHUP | EPOLLERR | EPOLLPRI)

static void receive(mux_epoll *self, mux_slot *slot, bool ended)
{
    for (uint32_t reads = self->reads; reads; reads--) {
        mux_room room;
        if (!self->base.sink->room(self->base.loop, slot, &room)) {
            slot->unread = true; /* a drained event may have filled the batch since the last receive */
            break;
        }
        ssize_t received = room.drop ? mux_sys_drop(slot->handle, room.to, room.size)
                                     : mux_sys_recv(slot->handle, room.to, room.size);
        if (received == -EAGAIN) {
            slot->unread = false;
            return;
        }
        bool full = received >= 0 && (size_t)received == room.size;
        if (received == -EINTR)
            slot->unread = true;
        else
            self->base.sink->received(self->base.loop, slot, room.to, received, full || ended);
        if (mux_slot_is_dead(slot) || slot->hold)
            return;
        if (received >= 0 && !full && !ended)
            return;
    }
    if (self->edge && !slot->hold)
        mux_todo_add(&self->todo, slot, READ_ON);
}

static void send_queue(mux_epoll *self, mux_slot *slot)
{
    for (int sends = SENDS; sends && !mux_slot_is_dead(slot) && slot->queue.size; sends--) {
        struct iovec parts[PARTS];
        int count = mux_sendq_parts(&slot->queue, parts, PARTS);
        ssize_t sent = mux_epoll_send(slot, parts, count);
        if (sent == -EAGAIN)
            return;
        self->base.sink->sent(self->base.loop, slot, sent);
    }
    if (self->edge && !mux_slot_is_dead(slot) && slot->queue.size)
        mux_todo_add(&self->todo, slot, SEND_ON);
}

/* What says something of an address: whoever keeps it pays for it as long as the connection is idle. */
static socklen_t told(const struct sockaddr_storage *peer, socklen_t size)
{
    return peer->ss_family == AF_INET && size > offsetof(struct sockaddr_in, sin_zero)
               ? offsetof(struct sockaddr_in, sin_zero)
               : size;
}

static void accept_some(mux_epoll *self, mux_slot *listener)
{
    for (uint32_t i = 0; i < self->grant && self->base.sink->may_accept(self->base.loop, listener); i++) {
        struct sockaddr_storage peer;
        socklen_t size = sizeof peer;
        int handle = mux_sys_accept(listener->handle, &peer, &size);
        if (handle == -EAGAIN)
            return;
        if (handle >= 0)
            self->base.sink->accepted(self->base.loop, listener, handle, &peer, told(&peer, size));
        else if (handle != -EINTR)
            self->base.sink->accept_failed(self->base.loop, listener, -handle);
    }
    self->used_up = true;
    if (self->edge && !listener->hold)
        mux_todo_add(&self->todo, listener, READ_ON);
}

void mux_epoll_ready(mux_epoll *self, mux_slot *slot, uint32_t events)
{
    bool broken = events & (EPOLLERR | EPOLLHUP);
    if (slot->state == MUX_LISTENER) {
        accept_some(self, slot);
        return;
    }
    if (slot->state == MUX_CONNECTING) {
        if (events & EPOLLOUT || broken)
            self->base.sink->connected(self->base.loop, slot, broken ? -mux_sys_error(slot->handle) : 0);
        return;
    }
    if (slot->state == MUX_CLOSING && events & (EPOLLIN | EPOLLPRI))
        slot->unread = true; /* should the last byte go now */
    if ((events & EPOLLOUT || broken) && slot->queue.size)
        send_queue(self, slot);
    if (!mux_slot_is_dead(slot) && !slot->hold && (events & (EPOLLIN | EPOLLRDHUP | EPOLLPRI) || broken))
        receive(self, slot, events & ENDED);
    if (mux_slot_is_dead(slot) || !(events & EPOLLERR))
        return;
    if (slot->hold) { /* held or half-closed as it is, a reset is its end */
        int error = mux_sys_error(slot->handle);
        if (error) /* EPIPE is what the kernel calls a reset after the peer's FIN */
            self->base.sink->received(self->base.loop, slot, NULL, error == -EPIPE ? -ECONNRESET : error, false);
    } else if (slot->todo & READ_ON) { /* the edge is used up, and the error behind what is left to read */
        mux_todo_add(&self->todo, slot, BROKEN);
    }
}
