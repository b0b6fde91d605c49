/* epoll, level- or edge-triggered.
 *
 * Facts and flaws of epoll that this file works around:
 * - A registration belongs to the open file, not to the descriptor. If a forked child still holds the
 *   file, close() leaves the registration alive: EPOLL_CTL_DEL comes first, always. Should stale events
 *   come all the same, generations keep them from harm but not from coming: the set is rebuilt.
 * - EPOLLHUP and EPOLLERR cannot be masked: under a level trigger a connection of which nothing is wanted
 *   is taken out of the set, or it would spin.
 * - Under an edge trigger, data and FIN that arrive together are one event. A short receive says that the
 *   socket is empty only if the event carried no RDHUP, HUP or ERR.
 * - Under an edge trigger whoever stops early must come back by himself: the list `again`.
 * - epoll_wait takes milliseconds: a wait is rounded up, so that a deadline is not polled for in a spin.
 */
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "loop.h"
#include "syscalls.h"

#define EVENTS 512   /* one wait's; 6 KiB, and one system call is shared by as many messages */
#define PARTS 16     /* chunks in one sendmsg: 256 KiB, as much as a socket takes at once */
#define STALE_MAX 64 /* stale events in a row, without one good, that show a registration left behind */
#define WAKE_ID UINT64_MAX
#define ENDED (EPOLLRDHUP | EPOLLHUP | EPOLLERR)

typedef struct epoll_backend {
    mux_backend base;
    int epoll, wake;
    bool edge;
    uint32_t reads, accepts; /* of one connection, of one listener, in one turn */
    unsigned stale;
    int cursor, ready; /* events[cursor..ready) are still to be looked at */
    uint64_t *again;   /* ids of those to go on with under an edge trigger */
    uint32_t again_count, again_cap;
    struct epoll_event events[EVENTS];
} epoll_backend;

static uint32_t wanted(const epoll_backend *self, const mux_slot *slot)
{
    if (self->edge) /* once, for everything: an edge that nobody wants costs nothing */
        return EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET;
    uint32_t events = slot->queue.size || slot->state == MUX_CONNECTING ? EPOLLOUT : 0;
    return slot->hold ? events : events | EPOLLIN;
}

static int arm(epoll_backend *self, mux_slot *slot, uint32_t events)
{
    if (events == slot->armed)
        return 0;
    if (mux_loop_forked(self->base.loop))
        return 0; /* the set is the parent's too: a DEL here would make the parent deaf */
    int op = !slot->armed ? EPOLL_CTL_ADD : events ? EPOLL_CTL_MOD : EPOLL_CTL_DEL;
    int failed = mux_sys_epoll_ctl(self->epoll, op, slot->handle, events, mux_slot_id(slot));
    if (!failed)
        slot->armed = events;
    return failed;
}

static void go_on_later(epoll_backend *self, mux_slot *slot)
{
    if (slot->queued_again)
        return;
    if (self->again_count == self->again_cap) {
        uint32_t cap = self->again_cap ? 2 * self->again_cap : 64;
        uint64_t *more = realloc(self->again, cap * sizeof *more);
        if (!more) { /* an edge that is lost is a connection that hangs: better end it */
            if (slot->state == MUX_LISTENER)
                mux_on_accept_failed(self->base.loop, slot, ENOMEM);
            else
                mux_on_received(self->base.loop, slot, NULL, -ENOMEM);
            return;
        }
        self->again = more;
        self->again_cap = cap;
    }
    self->again[self->again_count++] = mux_slot_id(slot);
    slot->queued_again = true;
}

static int epoll_attach(mux_backend *backend, mux_slot *slot)
{
    epoll_backend *self = (epoll_backend *)backend;
    return arm(self, slot, wanted(self, slot));
}

static void epoll_interest(mux_backend *backend, mux_slot *slot)
{
    epoll_backend *self = (epoll_backend *)backend;
    int failed = arm(self, slot, wanted(self, slot));
    if (failed && slot->state == MUX_LISTENER)
        mux_on_accept_failed(backend->loop, slot, -failed); /* it rests, and tries again */
    else if (failed)
        mux_on_received(backend->loop, slot, NULL, failed);
    else if (self->edge && !slot->hold)
        go_on_later(self, slot); /* the edge may have come while reading was held */
}

static ssize_t epoll_send(mux_backend *backend, mux_slot *slot, const void *data, size_t size)
{
    (void)backend;
    struct iovec part = {.iov_base = (void *)(uintptr_t)data, .iov_len = size};
    ssize_t sent = mux_sys_send(slot->handle, &part, 1);
    return sent == -EAGAIN || sent == -EINTR ? 0 : sent;
}

static int epoll_shutdown_write(mux_backend *backend, mux_slot *slot)
{
    (void)backend;
    return mux_sys_shutdown_write(slot->handle);
}

static void epoll_detach(mux_backend *backend, mux_slot *slot)
{
    epoll_backend *self = (epoll_backend *)backend;
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

static mux_slot *still(const epoll_backend *self, uint64_t id)
{
    const mux_slots *slots = mux_loop_slots(self->base.loop);
    return mux_slots_find(slots, (uint32_t)id, (uint32_t)(id >> 32));
}

static bool finished(const mux_slot *slot)
{
    return !slot || slot->state == MUX_LOST;
}

static void receive(epoll_backend *self, mux_slot *slot, bool ended)
{
    mux_loop *loop = self->base.loop;
    uint64_t id = mux_slot_id(slot);
    for (uint32_t reads = self->reads; reads; reads--) {
        size_t size;
        char *buffer = mux_on_buffer(loop, slot, &size);
        if (!buffer)
            break;
        ssize_t received = mux_sys_recv(slot->handle, buffer, size);
        if (received == -EAGAIN)
            return;
        if (received != -EINTR)
            mux_on_received(loop, slot, buffer, received);
        slot = still(self, id);
        if (finished(slot) || slot->hold)
            return;
        if (received >= 0 && (size_t)received < size && !ended)
            return;
    }
    if (self->edge)
        go_on_later(self, slot);
}

static void send_queue(epoll_backend *self, mux_slot *slot)
{
    uint64_t id = mux_slot_id(slot);
    while (!finished(slot) && slot->queue.size) {
        struct iovec parts[PARTS];
        int count = mux_sendq_parts(&slot->queue, parts, PARTS);
        ssize_t sent = mux_sys_send(slot->handle, parts, count);
        if (sent == -EAGAIN || sent == -EINTR)
            return;
        mux_on_sent(self->base.loop, slot, sent);
        slot = still(self, id);
    }
}

static void accept_some(epoll_backend *self, mux_slot *listener)
{
    mux_loop *loop = self->base.loop;
    uint64_t id = mux_slot_id(listener);
    for (uint32_t i = 0; i < self->accepts; i++) {
        struct sockaddr_storage peer;
        socklen_t size = sizeof peer;
        if (!mux_may_accept(loop, listener)) {
            if (self->edge && !listener->hold)
                go_on_later(self, listener);
            return;
        }
        int handle = mux_sys_accept(listener->handle, &peer, &size);
        if (handle == -EAGAIN)
            return;
        if (handle >= 0)
            mux_on_accepted(loop, listener, handle, &peer, size);
        else if (handle != -EINTR)
            mux_on_accept_failed(loop, listener, -handle);
        if (!still(self, id) || listener->hold)
            return;
    }
    if (self->edge)
        go_on_later(self, listener);
}

static void handle_ready(epoll_backend *self, mux_slot *slot, uint32_t events)
{
    uint64_t id = mux_slot_id(slot);
    bool broken = events & (EPOLLERR | EPOLLHUP);
    if (slot->state == MUX_LISTENER) {
        if (!slot->hold)
            accept_some(self, slot);
        return;
    }
    if (slot->state == MUX_CONNECTING) {
        if (events & EPOLLOUT || broken)
            mux_on_connected(self->base.loop, slot, broken ? -mux_sys_error(slot->handle) : 0);
        return;
    }
    if ((events & EPOLLOUT || broken) && slot->queue.size) {
        send_queue(self, slot);
        slot = still(self, id);
    }
    if (!finished(slot) && !slot->hold && (events & (EPOLLIN | EPOLLRDHUP) || broken))
        receive(self, slot, events & ENDED);
}

/* Register every live slot in a new set, and so get rid of what nobody can remove any more. */
static int rebuild(epoll_backend *self)
{
    const mux_slots *slots = mux_loop_slots(self->base.loop);
    int epoll = mux_sys_epoll_create();
    if (epoll < 0)
        return epoll;
    int failed = mux_sys_epoll_ctl(epoll, EPOLL_CTL_ADD, self->wake, EPOLLIN, WAKE_ID);
    for (uint32_t i = 0; !failed && i < slots->used; i++) {
        mux_slot *slot = mux_slots_at(slots, i);
        if (slot->state != MUX_FREE && slot->armed)
            failed = mux_sys_epoll_ctl(epoll, EPOLL_CTL_ADD, slot->handle, slot->armed,
                                       mux_slot_id(slot));
    }
    (void)mux_sys_close(failed ? epoll : self->epoll);
    if (!failed)
        self->epoll = epoll;
    return failed;
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
    int64_t ms = timeout < 0 ? -1 : (timeout + 999999) / 1000000;
    int ready = mux_sys_epoll_wait(self->epoll, self->events, EVENTS, ms > INT_MAX ? INT_MAX : (int)ms);
    mux_on_waited(self->base.loop);
    self->cursor = 0;
    self->ready = ready > 0 ? ready : 0;
    return ready == -EINTR ? 0 : ready;
}

static void run_again(epoll_backend *self)
{
    uint32_t count = self->again_count, done = 0;
    while (done < count && !mux_batch_full(self->base.loop)) {
        mux_slot *slot = still(self, self->again[done++]);
        if (!slot)
            continue;
        slot->queued_again = false;
        handle_ready(self, slot, EPOLLIN | EPOLLRDHUP);
    }
    /* what was added meanwhile, and what was not reached, comes next turn */
    self->again_count -= done;
    memmove(self->again, self->again + done, self->again_count * sizeof *self->again);
}

static int epoll_turn(mux_backend *backend, int64_t timeout)
{
    epoll_backend *self = (epoll_backend *)backend;
    if (self->again_count) {
        run_again(self);
        timeout = 0;
    }
    if (self->cursor == self->ready) {
        int ready = wait(self, timeout);
        if (ready < 0)
            return ready;
    }
    while (self->cursor < self->ready && !mux_batch_full(backend->loop)) {
        struct epoll_event event = self->events[self->cursor++];
        if (event.data.u64 == WAKE_ID) {
            drain_wake(self);
            continue;
        }
        mux_slot *slot = still(self, event.data.u64);
        if (slot && slot->armed) {
            self->stale = 0;
            handle_ready(self, slot, event.events);
        } else if (++self->stale > STALE_MAX) {
            self->stale = 0;
            return rebuild(self);
        }
    }
    return 0;
}

static void epoll_close(mux_backend *backend)
{
    epoll_backend *self = (epoll_backend *)backend;
    if (self->epoll >= 0)
        (void)mux_sys_close(self->epoll);
    free(self->again);
    free(self);
}

static const mux_backend_ops ops = {
    .attach = epoll_attach,
    .connect = epoll_connect,
    .interest = epoll_interest,
    .send = epoll_send,
    .shutdown_write = epoll_shutdown_write,
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
