/* epoll, level- or edge-triggered: the set, and the waiting. What a wait brings: epoll_ready.c.
 *
 * Facts and flaws of epoll that this file works around:
 * - A registration belongs to the open file, not to the descriptor. close() takes it along, which saves a
 *   call a connection, but not where somebody else still holds the file (a forked child, or whoever the
 *   descriptor came from or was lent to): there EPOLL_CTL_DEL comes first. Should stale events come all the
 *   same, generations keep them from harm but not from coming: the set is rebuilt.
 * - EPOLLHUP and EPOLLERR cannot be masked: under a level trigger a connection of which nothing is wanted
 *   would spin. Registered with EPOLLET alone it reports each of them once: so a reset is heard.
 * - epoll_wait takes milliseconds: a wait is rounded up, so that a deadline is not polled for in a spin.
 */
#include "backend_epoll.h"

#include <limits.h>

#define STALE_MAX 64 /* waits in a row that brought nothing but stale events: one was left behind */
#define WAKE_ID UINT64_MAX

/* -- what is watched for */

static uint32_t wanted(const mux_epoll *self, const mux_slot *slot)
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

static int arm(mux_epoll *self, mux_slot *slot, uint32_t events)
{
    if (events == slot->armed)
        return 0;
    int op = !slot->armed ? EPOLL_CTL_ADD : events ? EPOLL_CTL_MOD : EPOLL_CTL_DEL;
    int failed = mux_sys_epoll_ctl(self->epoll, op, slot->handle, events, mux_slot_id(slot));
    if (!failed)
        slot->armed = events;
    return failed;
}

static void watch(mux_epoll *self, mux_slot *slot)
{
    int failed = arm(self, slot, wanted(self, slot));
    if (failed && slot->state == MUX_LISTENER)
        self->base.sink->accept_failed(self->base.loop, slot, -failed); /* it rests, and tries again */
    else if (failed)
        self->base.sink->received(self->base.loop, slot, NULL, failed, false);
}

static int epoll_attach(mux_backend *backend, mux_slot *slot)
{
    mux_epoll *self = (mux_epoll *)backend;
    return arm(self, slot, wanted(self, slot));
}

static void epoll_interest(mux_backend *backend, mux_slot *slot)
{
    mux_epoll *self = (mux_epoll *)backend;
    if (mux_slot_is_dead(slot))
        return; /* it is in the set no more */
    if (!self->edge || !slot->armed) /* not armed: a listener that could not be, and has rested */
        mux_todo_add(&self->todo, slot, WATCH);
    else if (!slot->hold)
        mux_todo_add(&self->todo, slot, READ_ON); /* the edge may have come while reading was held */
}

static void remove_from_set(mux_epoll *self, mux_slot *slot)
{
    if (slot->armed && self->forks == mux_sys_forks()) /* else the set is the parent's too: it would be deaf */
        (void)arm(self, slot, 0); /* fails only if somebody else closed the descriptor, which is as good */
    slot->armed = 0;
}

static void epoll_detach(mux_backend *backend, mux_slot *slot)
{
    mux_epoll *self = (mux_epoll *)backend;
    (void)mux_todo_remove(&self->todo, slot);
    mux_sendq_clear(&slot->queue, backend->pool); /* send(2) has copied what it took */
    if (slot->state == MUX_LISTENER) /* it is not ours to close */
        remove_from_set(self, slot);
}

static void epoll_release(mux_backend *backend, mux_slot *slot)
{
    if (slot->shared || mux_sys_has_forked()) /* as late as this: a fork may have come since detach */
        remove_from_set((mux_epoll *)backend, slot);
    slot->armed = 0;
    if (slot->abortive)
        mux_sys_reset(slot->handle);
    (void)mux_sys_close(slot->handle); /* what it could report was lost before */
    slot->handle = -1;
}

static int epoll_descriptor(mux_backend *backend, const mux_slot *slot)
{
    (void)backend;
    return slot->handle;
}

static int epoll_give(mux_backend *backend, mux_slot *slot)
{
    mux_epoll *self = (mux_epoll *)backend;
    int handle = slot->handle;
    (void)mux_todo_remove(&self->todo, slot);
    remove_from_set(self, slot); /* the descriptor stays open */
    slot->handle = -1;
    return handle;
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

static ssize_t epoll_send(mux_backend *backend, mux_slot *slot, const void *data, size_t size)
{
    (void)backend;
    struct iovec part = {.iov_base = (void *)(uintptr_t)data, .iov_len = size};
    ssize_t sent = mux_epoll_send(slot, &part, 1);
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

/* -- the set */

static void close_retired(mux_epoll *self)
{
    if (self->retired >= 0)
        (void)mux_sys_close(self->retired);
    self->retired = -1;
}

/* Register every live slot in a new set, and so get rid of what nobody can remove any more. Where there can
 * be no new set the old one goes on, and this is tried again. */
static void rebuild(mux_epoll *self)
{
    const mux_slots *slots = self->base.slots;
    int epoll = mux_sys_epoll_create();
    if (epoll < 0)
        return;
    if (mux_sys_epoll_ctl(epoll, EPOLL_CTL_ADD, self->wake, EPOLLIN, WAKE_ID)) {
        (void)mux_sys_close(epoll);
        return;
    }
    close_retired(self);
    self->retired = self->epoll;
    self->epoll = epoll;
    for (uint32_t i = 0; i < slots->used; i++) {
        mux_slot *slot = mux_slots_at(slots, i);
        bool watched = slot->armed && !mux_slot_is_dead(slot);
        slot->armed = 0;
        if (watched)
            watch(self, slot); /* what cannot be watched ends alone */
    }
}

static void drain_wake(mux_epoll *self)
{
    char bytes[256];
    while (mux_sys_recv(self->wake, bytes, sizeof bytes) == sizeof bytes)
        ;
    self->base.sink->woken(self->base.loop);
}

static int wait(mux_epoll *self, int64_t timeout)
{
    int64_t ms = timeout < 0 ? -1 : timeout / 1000000 + (timeout % 1000000 != 0);
    int ready = mux_sys_epoll_wait(self->epoll, self->events, EVENTS, ms > INT_MAX ? INT_MAX : (int)ms);
    self->base.sink->clock(self->base.loop, ready >= 0);
    self->cursor = 0;
    self->ready = ready > 0 ? ready : 0;
    self->good = false;
    self->grant = self->used_up ? 2 * self->grant : 1;
    if (self->grant > self->accepts || self->edge)
        self->grant = self->accepts;
    self->used_up = false;
    return ready == -EINTR ? 0 : ready;
}

/* Do what was left for this turn; what that leaves again is the next one's. Whether something was received, sent or
 * accepted: that may have set a deadline, which the coming wait was not told of. */
static bool run_todo(mux_epoll *self)
{
    bool any = false;
    for (uint32_t count = self->todo.count; count && self->todo.count; count--) {
        mux_slot *slot = mux_todo_first(&self->todo);
        uint8_t what = mux_todo_remove(&self->todo, slot);
        if (what & WATCH)
            watch(self, slot);
        what &= READ_ON | SEND_ON | BROKEN;
        if (!what || mux_slot_is_dead(slot))
            continue;
        if (self->base.sink->full(self->base.loop))
            mux_todo_add(&self->todo, slot, what);
        else
            mux_epoll_ready(self, slot, (what & READ_ON ? EPOLLIN | EPOLLRDHUP : 0u) |
                                         (what & SEND_ON ? EPOLLOUT : 0u) |
                                         (what & BROKEN ? EPOLLERR : 0u));
        any = true;
    }
    return any;
}

static int epoll_turn(mux_backend *backend, int64_t timeout)
{
    mux_epoll *self = (mux_epoll *)backend;
    if (self->retired >= 0)
        close_retired(self);
    const bool any = run_todo(self);
    if (self->cursor == self->ready) {
        int ready = wait(self, any || self->todo.count || !self->base.sink->may_wait(self->base.loop) ? 0 : timeout);
        if (ready < 0)
            return ready;
    }
    while (self->cursor < self->ready && !self->base.sink->full(self->base.loop)) {
        struct epoll_event event = self->events[self->cursor++];
        if (event.data.u64 == WAKE_ID) {
            self->good = true;
            drain_wake(self);
            continue;
        }
        mux_slot *slot = mux_slots_find(backend->slots, (uint32_t)event.data.u64,
                                        (uint32_t)(event.data.u64 >> 32));
        if (!slot || !slot->armed)
            continue;
        self->good = true;
        if (mux_slot_is_dead(slot)) { /* yet to be released: no second event */
            remove_from_set(self, slot);
            continue;
        }
        mux_epoll_ready(self, slot, event.events);
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
    return !more || self->behind > backend->slots->used / EVENTS + 1;
}

static bool epoll_busy(const mux_backend *backend)
{
    const mux_epoll *self = (const mux_epoll *)backend;
    return self->todo.count || self->cursor < self->ready || self->retired >= 0;
}

static int epoll_watched(const mux_backend *backend)
{
    return ((const mux_epoll *)backend)->epoll;
}

static void epoll_close(mux_backend *backend)
{
    mux_epoll *self = (mux_epoll *)backend;
    close_retired(self);
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
    .descriptor = epoll_descriptor,
    .give = epoll_give,
    .turn = epoll_turn,
    .busy = epoll_busy,
    .watched = epoll_watched,
    .close = epoll_close,
};

mux_backend *mux_epoll_open(mux_backend host, const mux_options *options, const char **failed, int *error)
{
    int result;
    mux_epoll *self = mux_sys_allocate(1, sizeof *self);
    *failed = "malloc";
    *error = ENOMEM;
    if (!self)
        return NULL;
    self->base = host;
    self->base.ops = &ops;
    self->retired = -1;
    self->forks = mux_sys_forks();
    self->wake = options->wake;
    self->edge = options->edge;
    mux_todo_open(&self->todo, host.slots);
    /* under a level trigger the next wait reports what is left, so one receive a turn is fairest */
    self->reads = options->edge ? options->reads : 1;
    self->accepts = options->accepts;
    self->grant = options->edge ? options->accepts : 1;
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
