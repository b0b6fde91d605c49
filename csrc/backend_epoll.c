/* epoll, level- or edge-triggered.
 *
 * Facts and flaws of epoll that this file works around:
 * - A registration belongs to the open file, not to the descriptor. If a forked child still holds the
 *   file, close() leaves the registration alive: EPOLL_CTL_DEL comes first, always. Should stale events
 *   come all the same, generations keep them from harm but not from coming: the set is rebuilt.
 * - EPOLLHUP and EPOLLERR cannot be masked: under a level trigger a connection of which nothing is wanted
 *   would spin. Registered with EPOLLET alone it reports each of them once: so a reset is heard.
 * - Under an edge trigger, data and FIN that arrive together are one event, and a receive stops short at
 *   urgent data (tcp(7)). A short receive says that the socket is empty only if the event carried no RDHUP,
 *   HUP, ERR or PRI. (Under a level trigger PRI would spin: it lasts until more than the urgent byte comes.)
 * - Under an edge trigger whoever stops early must come back by himself: todo.h.
 * - epoll_wait takes milliseconds: a wait is rounded up, so that a deadline is not polled for in a spin.
 */
#include <errno.h>
#include <limits.h>
#include <string.h>

#include "loop.h"
#include "syscalls.h"
#include "todo.h"

#define EVENTS 512   /* one wait's; 6 KiB, and one system call is shared by as many messages */
#define PARTS 16     /* chunks in one sendmsg: 256 KiB, as much as a socket takes at once */
#define SENDS 4      /* of one connection in a turn: 1 MiB takes about 0.3 ms, and others wait meanwhile */
#define STALE_MAX 64 /* waits in a row that brought nothing but stale events: one was left behind */
#define WAKE_ID UINT64_MAX
#define ENDED (EPOLLRDHUP | EPOLLHUP | EPOLLERR | EPOLLPRI)

/* slot->todo: interest has changed; receiving, or accepting, stopped early; sending did; an error was told */
enum { WATCH = 1, READ_ON = 2, SEND_ON = 4, BROKEN = 8 };

typedef struct epoll_backend {
    mux_backend base;
    int epoll, wake;
    bool edge;
    uint32_t reads, accepts; /* of one connection, of one listener, in one turn */
    unsigned stale;          /* waits in a row */
    bool good;               /* this wait's events were not all stale */
    uint32_t behind;         /* turns in a row that left something for the next */
    int cursor, ready;       /* events[cursor..ready) are still to be looked at */
    mux_todo todo;
    struct epoll_event events[EVENTS];
} epoll_backend;

static bool dead(const mux_slot *slot)
{
    return slot->state == MUX_LOST || slot->state == MUX_FREE;
}

/* -- what is watched for */

static uint32_t wanted(const epoll_backend *self, const mux_slot *slot)
{
    if (self->edge) /* once, for everything: an edge that nobody wants costs nothing */
        return EPOLLIN | EPOLLOUT | EPOLLPRI | EPOLLRDHUP | EPOLLET;
    if (slot->state == MUX_LISTENER)
        return slot->hold ? 0 : EPOLLIN;
    uint32_t events = slot->queue.size || slot->state == MUX_CONNECTING ? EPOLLOUT : 0;
    if (!slot->hold)
        events |= EPOLLIN;
    return events ? events : EPOLLET;
}

static int arm(epoll_backend *self, mux_slot *slot, uint32_t events)
{
    if (events == slot->armed)
        return 0;
    int op = !slot->armed ? EPOLL_CTL_ADD : events ? EPOLL_CTL_MOD : EPOLL_CTL_DEL;
    int failed = mux_sys_epoll_ctl(self->epoll, op, slot->handle, events, mux_slot_id(slot));
    if (!failed)
        slot->armed = events;
    return failed;
}

static void watch(epoll_backend *self, mux_slot *slot)
{
    int failed = arm(self, slot, wanted(self, slot));
    if (failed && slot->state == MUX_LISTENER)
        mux_on_accept_failed(self->base.loop, slot, -failed); /* it rests, and tries again */
    else if (failed)
        mux_on_received(self->base.loop, slot, NULL, failed, false);
}

static int epoll_attach(mux_backend *backend, mux_slot *slot)
{
    epoll_backend *self = (epoll_backend *)backend;
    return arm(self, slot, wanted(self, slot));
}

static void epoll_interest(mux_backend *backend, mux_slot *slot)
{
    epoll_backend *self = (epoll_backend *)backend;
    if (dead(slot))
        return; /* it is in the set no more */
    if (!self->edge || !slot->armed) /* not armed: a listener that could not be, and has rested */
        mux_todo_add(&self->todo, slot, WATCH);
    else if (!slot->hold)
        mux_todo_add(&self->todo, slot, READ_ON); /* the edge may have come while reading was held */
}

static void epoll_detach(mux_backend *backend, mux_slot *slot)
{
    epoll_backend *self = (epoll_backend *)backend;
    (void)mux_todo_remove(&self->todo, slot);
    if (slot->armed && !mux_loop_forked(backend->loop)) /* the set is the parent's too: it would be deaf */
        (void)arm(self, slot, 0); /* fails only if somebody else closed the descriptor, which is as good */
    slot->armed = 0;
}

static void epoll_release(mux_backend *backend, mux_slot *slot)
{
    (void)backend;
    if (slot->abortive)
        mux_sys_reset(slot->handle);
    (void)mux_sys_close(slot->handle); /* what it could report was lost before */
    slot->handle = -1;
}

static int epoll_connect(mux_backend *backend, mux_slot *slot, const void *address, socklen_t size)
{
    int fd = mux_sys_socket(((const struct sockaddr *)address)->sa_family);
    if (fd < 0)
        return fd;
    slot->handle = fd;
    int failed = mux_sys_connect(fd, address, size);
    if (!failed || failed == -EINPROGRESS || failed == -EINTR)
        failed = epoll_attach(backend, slot); /* writable: it is connected, or has failed */
    if (failed)
        epoll_release(backend, slot);
    return failed;
}

/* -- bytes and clients */

static ssize_t send_parts(const mux_slot *slot, const struct iovec *parts, int count)
{
    ssize_t sent;
    do
        sent = mux_sys_send(slot->handle, parts, count);
    while (sent == -EINTR); /* under an edge trigger nobody would come back for what it left */
    return sent;
}

static ssize_t epoll_send(mux_backend *backend, mux_slot *slot, const void *data, size_t size)
{
    (void)backend;
    struct iovec part = {.iov_base = (void *)(uintptr_t)data, .iov_len = size};
    ssize_t sent = send_parts(slot, &part, 1);
    return sent == -EAGAIN ? 0 : sent;
}

static int epoll_shutdown_write(mux_backend *backend, mux_slot *slot)
{
    (void)backend;
    return mux_sys_shutdown_write(slot->handle);
}

static bool epoll_unacknowledged(mux_backend *backend, mux_slot *slot)
{
    (void)backend;
    return mux_sys_unacknowledged(slot->handle);
}

static void receive(epoll_backend *self, mux_slot *slot, bool ended)
{
    mux_loop *loop = self->base.loop;
    for (uint32_t reads = self->reads; reads; reads--) {
        size_t size;
        char *buffer = mux_on_buffer(loop, slot, &size);
        if (!buffer) {
            slot->unread = true;
            break;
        }
        bool drop = slot->state != MUX_OPEN || slot->verb == MUX_VERB_DISCARD;
        ssize_t received = drop ? mux_sys_drop(slot->handle, buffer, size)
                                : mux_sys_recv(slot->handle, buffer, size);
        if (received == -EAGAIN) {
            slot->unread = false;
            return;
        }
        bool full = received >= 0 && (size_t)received == size;
        if (received == -EINTR)
            slot->unread = true;
        else
            mux_on_received(loop, slot, buffer, received, full || ended);
        if (dead(slot) || slot->hold)
            return;
        if (received >= 0 && !full && !ended)
            return;
    }
    if (self->edge)
        mux_todo_add(&self->todo, slot, READ_ON);
}

static void send_queue(epoll_backend *self, mux_slot *slot)
{
    for (int sends = SENDS; sends && !dead(slot) && slot->queue.size; sends--) {
        struct iovec parts[PARTS];
        int count = mux_sendq_parts(&slot->queue, parts, PARTS);
        ssize_t sent = send_parts(slot, parts, count);
        if (sent == -EAGAIN)
            return;
        mux_on_sent(self->base.loop, slot, sent);
    }
    if (self->edge && !dead(slot) && slot->queue.size)
        mux_todo_add(&self->todo, slot, SEND_ON);
}

static void accept_some(epoll_backend *self, mux_slot *listener)
{
    mux_loop *loop = self->base.loop;
    for (uint32_t i = 0; i < self->accepts && !listener->hold; i++) {
        struct sockaddr_storage peer;
        socklen_t size = sizeof peer;
        if (!mux_may_accept(loop, listener))
            break;
        int handle = mux_sys_accept(listener->handle, &peer, &size);
        if (handle == -EAGAIN)
            return;
        if (handle >= 0)
            mux_on_accepted(loop, listener, handle, &peer, size);
        else if (handle != -EINTR)
            mux_on_accept_failed(loop, listener, -handle);
    }
    if (self->edge && !listener->hold)
        mux_todo_add(&self->todo, listener, READ_ON);
}

static void handle_ready(epoll_backend *self, mux_slot *slot, uint32_t events)
{
    mux_loop *loop = self->base.loop;
    bool broken = events & (EPOLLERR | EPOLLHUP);
    if (slot->state == MUX_LISTENER) {
        accept_some(self, slot);
        return;
    }
    if (slot->state == MUX_CONNECTING) {
        if (events & EPOLLOUT || broken)
            mux_on_connected(loop, slot, broken ? -mux_sys_error(slot->handle) : 0);
        return;
    }
    if (slot->state == MUX_CLOSING && events & (EPOLLIN | EPOLLPRI))
        slot->unread = true; /* should the last byte go now */
    if ((events & EPOLLOUT || broken) && slot->queue.size)
        send_queue(self, slot);
    if (!dead(slot) && !slot->hold && (events & (EPOLLIN | EPOLLRDHUP | EPOLLPRI) || broken))
        receive(self, slot, events & ENDED);
    if (dead(slot) || !(events & EPOLLERR))
        return;
    if (slot->hold) { /* held or half-closed as it is, a reset is its end */
        int error = mux_sys_error(slot->handle);
        if (error) /* EPIPE is what the kernel calls a reset after the peer's FIN */
            mux_on_received(loop, slot, NULL, error == -EPIPE ? -ECONNRESET : error, false);
    } else if (slot->todo & READ_ON) { /* the edge is used up, and the error behind what is left to read */
        mux_todo_add(&self->todo, slot, BROKEN);
    }
}

/* -- the set */

/* Register every live slot in a new set, and so get rid of what nobody can remove any more. Where there can
 * be no new set the old one goes on, and this is tried again. */
static void rebuild(epoll_backend *self)
{
    const mux_slots *slots = mux_loop_slots(self->base.loop);
    int epoll = mux_sys_epoll_create();
    if (epoll < 0)
        return;
    if (mux_sys_epoll_ctl(epoll, EPOLL_CTL_ADD, self->wake, EPOLLIN, WAKE_ID)) {
        (void)mux_sys_close(epoll);
        return;
    }
    (void)mux_sys_close(self->epoll);
    self->epoll = epoll;
    for (uint32_t i = 0; i < slots->used; i++) {
        mux_slot *slot = mux_slots_at(slots, i);
        if (slot->state == MUX_FREE || !slot->armed)
            continue;
        slot->armed = 0;
        watch(self, slot); /* what cannot be watched ends alone */
    }
}

static void drain_wake(epoll_backend *self)
{
    char bytes[256];
    while (mux_sys_recv(self->wake, bytes, sizeof bytes) == sizeof bytes)
        ;
    mux_on_woken(self->base.loop);
}

static int wait(epoll_backend *self, int64_t timeout)
{
    int64_t ms = timeout < 0 ? -1 : timeout / 1000000 + (timeout % 1000000 != 0);
    int ready = mux_sys_epoll_wait(self->epoll, self->events, EVENTS, ms > INT_MAX ? INT_MAX : (int)ms);
    mux_on_waited(self->base.loop, ready >= 0);
    self->cursor = 0;
    self->ready = ready > 0 ? ready : 0;
    self->good = false;
    return ready == -EINTR ? 0 : ready;
}

/* Do what was left for this turn; what that leaves again is the next one's. */
static void run_todo(epoll_backend *self)
{
    for (uint32_t count = self->todo.count; count && self->todo.count; count--) {
        mux_slot *slot = mux_todo_first(&self->todo);
        uint8_t what = mux_todo_remove(&self->todo, slot);
        if (what & WATCH)
            watch(self, slot);
        what &= READ_ON | SEND_ON | BROKEN;
        if (!what || dead(slot))
            continue;
        if (mux_batch_full(self->base.loop))
            mux_todo_add(&self->todo, slot, what);
        else
            handle_ready(self, slot, (what & READ_ON ? EPOLLIN | EPOLLRDHUP : 0u) |
                                         (what & SEND_ON ? EPOLLOUT : 0u) |
                                         (what & BROKEN ? EPOLLERR : 0u));
    }
}

static int epoll_turn(mux_backend *backend, int64_t timeout)
{
    epoll_backend *self = (epoll_backend *)backend;
    run_todo(self);
    if (self->cursor == self->ready) {
        int ready = wait(self, self->todo.count || !mux_may_wait(backend->loop) ? 0 : timeout);
        if (ready < 0)
            return ready;
    }
    while (self->cursor < self->ready && !mux_batch_full(backend->loop)) {
        struct epoll_event event = self->events[self->cursor++];
        if (event.data.u64 == WAKE_ID) {
            self->good = true;
            drain_wake(self);
            continue;
        }
        mux_slot *slot = mux_slots_find(mux_loop_slots(backend->loop), (uint32_t)event.data.u64,
                                        (uint32_t)(event.data.u64 >> 32));
        if (!slot || !slot->armed)
            continue;
        self->good = true;
        handle_ready(self, slot, event.events);
    }
    if (self->cursor < self->ready)
        return 0;
    self->stale = self->good || !self->ready ? 0 : self->stale + 1;
    if (self->stale > STALE_MAX) {
        self->stale = 0;
        rebuild(self);
    }
    /* A wait that brought all that it may has left others behind; the kernel goes round, so that after as many
     * waits as all slots would fill each has had its turn. */
    bool more = self->ready == EVENTS || (self->edge && self->todo.count);
    self->behind = more ? self->behind + 1 : 0;
    return !more || self->behind > mux_loop_slots(backend->loop)->used / EVENTS + 1;
}

static void epoll_close(mux_backend *backend)
{
    epoll_backend *self = (epoll_backend *)backend;
    if (self->epoll >= 0)
        (void)mux_sys_close(self->epoll);
    mux_sys_free(self);
}

static const mux_backend_ops ops = {
    .attach = epoll_attach,
    .connect = epoll_connect,
    .interest = epoll_interest,
    .send = epoll_send,
    .shutdown_write = epoll_shutdown_write,
    .unacknowledged = epoll_unacknowledged,
    .detach = epoll_detach,
    .release = epoll_release,
    .turn = epoll_turn,
    .close = epoll_close,
};

mux_backend *mux_epoll_open(mux_loop *loop, const mux_options *options, const char **failed, int *error)
{
    int result;
    epoll_backend *self = mux_sys_allocate(1, sizeof *self);
    *failed = "malloc";
    *error = ENOMEM;
    if (!self)
        return NULL;
    self->base.ops = &ops;
    self->base.loop = loop;
    self->wake = options->wake;
    self->edge = options->edge;
    mux_todo_open(&self->todo, mux_loop_slots(loop));
    /* under a level trigger the next wait reports what is left, so one receive a turn is fairest */
    self->reads = options->edge ? options->reads : 1;
    self->accepts = options->accepts;
    self->epoll = mux_sys_epoll_create();
    *failed = "epoll_create1";
    result = self->epoll;
    if (result < 0)
        goto err;
    *failed = "epoll_ctl";
    result = mux_sys_epoll_ctl(self->epoll, EPOLL_CTL_ADD, self->wake, EPOLLIN, WAKE_ID);
    if (result < 0)
        goto err;
    return &self->base;
err:
    *error = -result;
    epoll_close(&self->base);
    return NULL;
}
