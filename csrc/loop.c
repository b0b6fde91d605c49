#include "loop.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "loop_internal.h"
#include "relay.h"
#include "syscalls.h"

/* -- its life */

static size_t scratch_size(const mux_options *options)
{
    return options->read_chunk > MUX_RELAY_CHUNK ? options->read_chunk : MUX_RELAY_CHUNK;
}

mux_loop *mux_loop_bare(const mux_options *options)
{
    mux_loop *loop = mux_sys_allocate(1, sizeof *loop);
    if (!loop)
        return NULL;
    loop->options = *options;
    loop->stats = options->stats;
    loop->pid = mux_sys_pid();
    loop->now = mux_sys_now();
    loop->lost_first = loop->lost_last = loop->half_first = loop->half_last = MUX_NONE;
    /* as many again that we connect; and listeners have slots too: 64 of them */
    if (mux_slots_open(&loop->slots, 2 * options->connections + 64))
        goto err;
    loop->events = mux_sys_allocate(MUX_EVENTS, sizeof *loop->events);
    loop->arena = mux_sys_allocate(1, MUX_ARENA);
    loop->scratch = mux_sys_allocate(1, scratch_size(options));
    if (!loop->events || !loop->arena || !loop->scratch)
        goto err;
    mux_wheel_open(&loop->wheel, &loop->slots, options->idle, loop->now);
    return loop;
err:
    mux_loop_free(loop);
    return NULL;
}

void mux_loop_set_backend(mux_loop *loop, mux_backend *backend)
{
    loop->backend = backend;
}

mux_loop *mux_loop_new(const mux_options *options, const char **failed, int *error)
{
    mux_loop *loop = mux_loop_bare(options);
    if (!loop) {
        *failed = "malloc";
        *error = ENOMEM;
        return NULL;
    }
    loop->backend = mux_epoll_open(loop, options, failed, error);
    if (!loop->backend) {
        mux_loop_free(loop);
        return NULL;
    }
    return loop;
}

static void free_now(mux_loop *loop)
{
    /* in a forked child the epoll set is the parent's too: close ours, and touch no registration */
    bool forked = mux_loop_forked(loop);
    for (uint32_t i = 0; i < loop->slots.used; i++) {
        mux_slot *slot = mux_slots_at(&loop->slots, i);
        if (slot->state == MUX_FREE)
            continue;
        mux_sendq_clear(&slot->queue, &loop->pool);
        if (!forked && slot->state != MUX_LOST)
            loop->backend->ops->detach(loop->backend, slot);
        if (slot->state != MUX_LISTENER)
            loop->backend->ops->release(loop->backend, slot);
    }
    if (loop->backend)
        loop->backend->ops->close(loop->backend);
    mux_slots_close(&loop->slots);
    mux_pool_close(&loop->pool);
    free(loop->events);
    free(loop->arena);
    free(loop->scratch);
    free(loop);
}

void mux_loop_free(mux_loop *loop)
{
    if (!loop)
        return;
    __atomic_store_n(&loop->free_asked, 1, __ATOMIC_SEQ_CST);
    if (!__atomic_load_n(&loop->polling, __ATOMIC_SEQ_CST))
        free_now(loop);
}

/* -- the batch */

mux_slots *mux_loop_slots(mux_loop *loop)
{
    return &loop->slots;
}

bool mux_batch_full(const mux_loop *loop)
{
    return loop->count + MUX_EVENTS_SPARE > MUX_EVENTS || loop->used + MUX_ARENA_LEAST > MUX_ARENA;
}

mux_event *mux_event_add(mux_loop *loop, uint32_t slot, enum mux_event_kind kind, int32_t value)
{
    mux_event *event = &loop->events[loop->count++];
    event->slot = slot;
    event->kind = kind;
    event->value = value;
    event->data = 0;
    return event;
}

char *mux_on_buffer(mux_loop *loop, const mux_slot *slot, size_t *size)
{
    *size = loop->options.read_chunk;
    if (slot->verb == MUX_VERB_RELAY)
        *size = scratch_size(&loop->options);
    if (slot->verb)
        return loop->scratch;
    if (slot->delivered == loop->batch || mux_batch_full(loop))
        return NULL;
    size_t left = MUX_ARENA - loop->used;
    if (*size > left)
        *size = left;
    return loop->arena + loop->used;
}

void mux_on_woken(mux_loop *loop)
{
    loop->woken = true;
}

void mux_on_waited(mux_loop *loop)
{
    loop->now = mux_sys_now();
}

bool mux_loop_forked(const mux_loop *loop)
{
    return loop->pid != mux_sys_pid();
}

static void deliver_lost(mux_loop *loop)
{
    while (loop->lost_first != MUX_NONE && loop->count + MUX_EVENTS_SPARE <= MUX_EVENTS) {
        mux_slot *slot = mux_slots_at(&loop->slots, loop->lost_first);
        loop->lost_first = slot->next;
        mux_event_add(loop, slot->index, MUX_EV_LOST, slot->error);
    }
}

/* -- turns */

static void keep_deadlines(mux_loop *loop)
{
    mux_slot *slot;
    while ((slot = mux_wheel_expired(&loop->wheel, loop->now)))
        mux_slot_lost(loop, slot, MUX_IDLE);
    mux_relay_overdue(loop);
    if (loop->rest_until && loop->rest_until <= loop->now)
        mux_listeners_resume(loop);
}

static int64_t how_long(const mux_loop *loop, int64_t deadline)
{
    int64_t until = deadline, due = mux_wheel_due(&loop->wheel);
    if (loop->count || loop->woken)
        return 0;
    if (due < until)
        until = due;
    if (mux_relay_due(loop) < until)
        until = mux_relay_due(loop);
    if (loop->rest_until && loop->rest_until < until)
        until = loop->rest_until;
    if (until == INT64_MAX)
        return -1;
    return until > loop->now ? until - loop->now : 0;
}

static int serve(mux_loop *loop, int64_t deadline)
{
    loop->now = mux_sys_now();
    do {
        MUX_COUNT(loop->stats->turns, 1);
        keep_deadlines(loop);
        deliver_lost(loop);
        int failed = loop->backend->ops->turn(loop->backend, how_long(loop, deadline));
        if (failed < 0)
            return failed;
        deliver_lost(loop);
        if (loop->count || loop->woken)
            break;
    } while (loop->now < deadline && !__atomic_load_n(&loop->free_asked, __ATOMIC_RELAXED));
    return (int)loop->count;
}

int mux_loop_poll(mux_loop *loop, int64_t deadline)
{
    if (mux_loop_forked(loop))
        return -ECHILD;
    __atomic_store_n(&loop->polling, 1, __ATOMIC_SEQ_CST);
    loop->count = 0;
    loop->used = 0;
    loop->woken = false;
    loop->batch = loop->batch + 1 ? loop->batch + 1 : 1; /* never 0, which a new slot says */
    MUX_COUNT(loop->stats->returns, 1);
    int result = serve(loop, deadline);
    __atomic_store_n(&loop->polling, 0, __ATOMIC_SEQ_CST);
    if (__atomic_load_n(&loop->free_asked, __ATOMIC_SEQ_CST)) {
        free_now(loop);
        return -ECANCELED;
    }
    return result;
}

/* -- what Python looks at */

const mux_event *mux_loop_events(const mux_loop *loop)
{
    return loop->events;
}

uint32_t mux_loop_events_cap(const mux_loop *loop)
{
    (void)loop;
    return MUX_EVENTS;
}

const char *mux_loop_arena(const mux_loop *loop)
{
    return loop->arena;
}

uint32_t mux_loop_arena_size(const mux_loop *loop)
{
    (void)loop;
    return MUX_ARENA;
}
