#include "loop.h"

#include <assert.h>
#include <errno.h>

#include "gather.h"
#include "loop_internal.h"
#include "relay.h"
#include "syscalls.h"

#define LINGER_LOOKS 64 /* while a connection lingers: no event tells of an acknowledgement */

/* -- its life */

static size_t scratch_size(const mux_options *options)
{
    return options->read_chunk > MUX_SCRATCH ? options->read_chunk : MUX_SCRATCH;
}

/* As many again that we connect; and listeners have slots too: 64 of them. */
static uint32_t slots_cap(const mux_options *options)
{
    uint64_t cap = 2 * (uint64_t)options->connections + 64;
    return cap < MUX_NONE ? (uint32_t)cap : MUX_NONE;
}

/* A closing connection is ended by whichever deadline is the shorter one. */
static bool idle_ends_closing(const mux_options *options)
{
    return options->idle && (!options->close || options->idle <= options->close);
}

mux_loop *mux_loop_bare(const mux_options *options)
{
    mux_loop *loop = mux_sys_allocate(1, sizeof *loop);
    if (!loop)
        return NULL;
    loop->options = *options;
    loop->stats = options->stats;
    loop->forks = mux_sys_forks();
    loop->now = mux_sys_now();
    loop->lost_first = loop->lost_last = loop->half_first = loop->half_last = MUX_NONE;
    if (mux_slots_open(&loop->slots, slots_cap(options)))
        goto err;
    loop->events = mux_sys_allocate(MUX_EVENTS, sizeof *loop->events);
    loop->arena = mux_sys_pages(MUX_ARENA);
    loop->scratch = mux_sys_pages(scratch_size(options));
    loop->gather = mux_gather_new();
    if (!loop->events || !loop->arena || !loop->scratch || !loop->gather)
        goto err;
    const int64_t after[] = {options->idle, idle_ends_closing(options) ? options->idle : options->close,
                             (options->linger + LINGER_LOOKS - 1) / LINGER_LOOKS};
    for (int i = 0; i < MUX_LOST - MUX_OPEN; i++)
        mux_wheel_open(&loop->wheels[i], &loop->slots, after[i], loop->now);
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
    mux_sys_free(loop->events);
    mux_sys_free(loop->arena);
    mux_sys_free(loop->scratch);
    mux_sys_free(loop->gather);
    mux_sys_free(loop);
}

void mux_loop_free(mux_loop *loop)
{
    if (loop && __atomic_exchange_n(&loop->life, MUX_FREE_ASKED, __ATOMIC_ACQ_REL) == MUX_IDLE_LOOP)
        free_now(loop); /* else the poll does, when it returns */
}

/* -- the batch */

mux_slots *mux_loop_slots(mux_loop *loop)
{
    return &loop->slots;
}

bool mux_may_wait(const mux_loop *loop)
{
    return !loop->count && !loop->woken && loop->lost_first == MUX_NONE;
}

bool mux_batch_full(const mux_loop *loop)
{
    return loop->count + MUX_EVENTS_SPARE > MUX_EVENTS || loop->used + MUX_ARENA_LEAST > MUX_ARENA;
}

mux_event *mux_event_add(mux_loop *loop, uint32_t slot, enum mux_event_kind kind, int32_t value)
{
    assert(loop->count < MUX_EVENTS); /* whoever adds asks for room first: MUX_EVENTS_SPARE */
    mux_event *event = &loop->events[loop->count++];
    event->slot = slot;
    event->kind = kind;
    event->value = value;
    event->data = 0;
    return event;
}

char *mux_on_buffer(mux_loop *loop, const mux_slot *slot, size_t *size)
{
    bool dropped = slot->state != MUX_OPEN || slot->verb == MUX_VERB_DISCARD;
    *size = loop->options.read_chunk;
    if (dropped || slot->verb == MUX_VERB_RELAY)
        *size = scratch_size(&loop->options);
    if (dropped || slot->verb)
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

void mux_on_waited(mux_loop *loop, bool told)
{
    loop->now = mux_sys_now();
    if (told)
        loop->told_at = loop->now;
}

bool mux_loop_forked(const mux_loop *loop)
{
    return loop->forks != mux_sys_forks();
}

/* -- those that have ended */

void mux_lost_add(mux_loop *loop, mux_slot *slot)
{
    slot->next = MUX_NONE;
    if (loop->lost_first == MUX_NONE)
        loop->lost_first = slot->index;
    else
        mux_slots_at(&loop->slots, loop->lost_last)->next = slot->index;
    loop->lost_last = slot->index;
}

static void count_error(mux_loop *loop, int32_t error)
{
    const int last = (int)(sizeof loop->stats->errors / sizeof *loop->stats->errors) - 1;
    const int number = error > 0 ? error & ~MUX_PASSED_ON : 0;
    if (error == MUX_IDLE)
        MUX_COUNT(loop->stats->idle, 1);
    else if (error == MUX_HALF_CLOSED)
        MUX_COUNT(loop->stats->half_closed, 1);
    else if (error == MUX_NOT_TAKEN)
        MUX_COUNT(loop->stats->not_taken, 1);
    else if (number)
        MUX_COUNT(loop->stats->errors[number < last ? number : last], 1);
}

/* Tell Python of the end of those that it sees, and free the others: the place where lives end. */
static void bury(mux_loop *loop)
{
    while (loop->lost_first != MUX_NONE) {
        mux_slot *slot = mux_slots_at(&loop->slots, loop->lost_first);
        if (slot->seen && loop->count + MUX_EVENTS_SPARE > MUX_EVENTS)
            return; /* the rest is next batch's */
        loop->lost_first = slot->next;
        if (slot->seen)
            mux_event_add(loop, slot->index, MUX_EV_LOST, slot->error);
        else if (!slot->told)
            count_error(loop, slot->error);
        slot->told = true;
        if (!slot->seen && slot->state == MUX_LOST)
            mux_slot_free(loop, slot);
    }
}

/* -- turns */

static void keep_deadlines(mux_loop *loop)
{
    uint32_t looks = MUX_EXPIRIES;
    mux_slot *slot;
    while ((slot = mux_wheel_expired(&loop->wheels[0], loop->told_at, &looks)))
        mux_slot_expire(loop, slot, MUX_IDLE);
    const int closing = idle_ends_closing(&loop->options) ? MUX_IDLE : MUX_NOT_TAKEN;
    while ((slot = mux_wheel_expired(&loop->wheels[MUX_CLOSING - MUX_OPEN], loop->told_at, &looks)))
        mux_slot_expire(loop, slot, closing);
    mux_wheel *lingering = &loop->wheels[MUX_LINGERING - MUX_OPEN];
    while ((slot = mux_wheel_expired(lingering, loop->told_at, &looks))) {
        slot->moved_at = loop->told_at;
        if (slot->half_at > loop->told_at && loop->backend->ops->unacknowledged(loop->backend, slot))
            mux_wheel_add(lingering, slot);
        else
            mux_slot_end(loop, slot, 0);
    }
    mux_relay_overdue(loop, &looks);
}

static int64_t how_long(const mux_loop *loop, int64_t deadline)
{
    int64_t until = deadline;
    if (!mux_may_wait(loop))
        return 0;
    for (int i = 0; i < MUX_LOST - MUX_OPEN; i++)
        if (mux_wheel_due(&loop->wheels[i]) < until)
            until = mux_wheel_due(&loop->wheels[i]);
    if (mux_relay_due(loop) < until)
        until = mux_relay_due(loop);
    if (loop->resting && loop->rest_until && loop->rest_until < until)
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
        bury(loop);
        if (loop->resting)
            mux_listeners_resume(loop);
        int done = loop->backend->ops->turn(loop->backend, how_long(loop, deadline));
        if (done < 0)
            return done;
        /* Bytes first, and the clock of the wait that told of them: after a stall (a long callback, a stopped
         * process) every deadline seems to have passed, also of those whose bytes wait. */
        if (done)
            keep_deadlines(loop);
        bury(loop);
        if (loop->count || loop->woken)
            break;
    } while (loop->now < deadline && __atomic_load_n(&loop->life, __ATOMIC_RELAXED) == MUX_POLLING);
    return (int)loop->count;
}

int mux_loop_send_poll(mux_loop *loop, const char *data, size_t size, int64_t deadline)
{
    int life = MUX_IDLE_LOOP;
    if (mux_loop_forked(loop))
        return -ECHILD;
    if (!__atomic_compare_exchange_n(&loop->life, &life, MUX_POLLING, false, __ATOMIC_ACQ_REL,
                                     __ATOMIC_ACQUIRE))
        return -EPERM; /* another thread polls */
    __atomic_store_n(&loop->owner, mux_sys_thread(), __ATOMIC_RELAXED);
    loop->count = 0;
    loop->used = 0;
    loop->woken = false;
    loop->batch = loop->batch + 1 ? loop->batch + 1 : 1; /* never 0, which a new slot says */
    MUX_COUNT(loop->stats->returns, 1);
    int result = size ? mux_gather_send(loop, data, size) : 0;
    if (result > 0)
        mux_event_add(loop, 0, MUX_EV_QUEUED, result);
    if (result >= 0)
        result = serve(loop, deadline);
    life = MUX_POLLING;
    if (__atomic_compare_exchange_n(&loop->life, &life, MUX_IDLE_LOOP, false, __ATOMIC_ACQ_REL,
                                    __ATOMIC_ACQUIRE))
        return result;
    free_now(loop);
    return -ECANCELED;
}

int mux_loop_poll(mux_loop *loop, int64_t deadline)
{
    return mux_loop_send_poll(loop, NULL, 0, deadline);
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
