#include "loop.h"

#include <errno.h>

#include "connect.h"
#include "connection.h"
#include "gather.h"
#include "listener.h"
#include "moved.h"
#include "rate.h"
#include "verb.h"
#include "verb_relay.h"

#define LINGER_LOOKS 64 /* while a connection lingers: no event tells of an acknowledgement */

/* -- its life */

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
    loop->verbs = mux_verbs;
    loop->forks = mux_sys_forks();
    loop->now = mux_sys_now();
    loop->half_closed_first = loop->half_closed_last = MUX_NONE;
    if (mux_slots_open(&loop->slots, slots_cap(options)) || mux_batch_open(&loop->batch))
        goto err;
    loop->scratch_size = options->read_chunk > MUX_SCRATCH ? options->read_chunk : MUX_SCRATCH;
    loop->scratch = mux_sys_pages(loop->scratch_size);
    loop->gather = mux_gather_new();
    if (!loop->scratch || !loop->gather)
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

void mux_loop_count_in(mux_loop *loop, mux_stats *stats)
{
    loop->stats = stats;
}

/* -- what a backend may ask and report: the table that it does so through */

static bool may_wait(const mux_loop *loop)
{
    return !loop->batch.count && !loop->woken && loop->batch.ended_first == MUX_NONE;
}

static bool full(const mux_loop *loop)
{
    return mux_batch_full(&loop->batch);
}

static void on_woken(mux_loop *loop)
{
    loop->woken = true;
}

static void on_clock(mux_loop *loop, bool told)
{
    loop->now = mux_sys_now();
    if (told)
        loop->told_at = loop->now;
}

static const mux_sink sink = {
    .may_wait = may_wait,
    .full = full,
    .room = mux_on_room,
    .received = mux_on_received,
    .sent = mux_on_sent,
    .may_accept = mux_on_may_accept,
    .accepted = mux_on_accepted,
    .accept_failed = mux_on_accept_failed,
    .connected = mux_on_connected,
    .woken = on_woken,
    .clock = on_clock,
};

mux_backend mux_loop_host(mux_loop *loop)
{
    return (mux_backend){.loop = loop, .sink = &sink, .slots = &loop->slots, .pool = &loop->pool};
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
    loop->backend = mux_epoll_open(mux_loop_host(loop), options, failed, error);
    if (!loop->backend) {
        mux_loop_free(loop);
        return NULL;
    }
    return loop;
}

static void free_now(mux_loop *loop)
{
    for (uint32_t i = 0; i < loop->slots.used; i++) {
        mux_slot *slot = mux_slots_at(&loop->slots, i);
        if (slot->state == MUX_FREE || slot->hold & MUX_HOLD_GONE)
            continue;
        if (slot->state != MUX_LOST)
            loop->backend->ops->detach(loop->backend, slot);
        if (slot->state != MUX_LISTENER)
            loop->backend->ops->release(loop->backend, slot);
    }
    if (loop->backend)
        loop->backend->ops->close(loop->backend);
    mux_slots_close(&loop->slots);
    mux_pool_close(&loop->pool);
    mux_batch_close(&loop->batch);
    mux_sys_free(loop->scratch);
    mux_sys_free(loop->gather);
    mux_sys_free(loop->joined);
    mux_rates_close(loop->rates);
    mux_sys_free(loop);
}

void mux_loop_free(mux_loop *loop)
{
    if (loop && __atomic_exchange_n(&loop->life, MUX_FREE_ASKED, __ATOMIC_ACQ_REL) == MUX_IDLE_LOOP)
        free_now(loop); /* else the poll does, when it returns */
}

/* -- those that have ended */

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
    mux_batch *batch = &loop->batch;
    if (loop->movers)
        mux_moved_hear(loop);
    while (batch->ended_first != MUX_NONE) {
        mux_slot *slot = mux_slots_at(&loop->slots, batch->ended_first);
        const uint64_t life[] = {slot->bytes_in, slot->bytes_out, slot->hold & MUX_HOLD_FIRST,
                                 slot->verb == MUX_VERB_RELAY ? slot->answered : 0};
        if (slot->seen &&
            (batch->count + MUX_EVENTS_SPARE > MUX_EVENTS || batch->used + sizeof life > MUX_ARENA))
            return; /* the rest is next batch's */
        batch->ended_first = slot->next;
        if (slot->seen) {
            mux_batch_add(batch, slot->index, MUX_EV_LOST, slot->error);
            mux_batch_bytes(batch, life, sizeof life);
        } else if (!slot->told) {
            count_error(loop, slot->error);
        }
        slot->told = true;
        if (!slot->seen && slot->state == MUX_LOST)
            mux_conn_free(loop, slot);
    }
}

/* -- turns */

/* Let those read on whose turn it is. */
static void keep_rates(mux_loop *loop)
{
    for (uint32_t index; (index = mux_rates_next(loop->rates, loop->now)) != MUX_NONE;) {
        mux_slot *slot = mux_slots_at(&loop->slots, index);
        mux_slot *peer = slot->peer != MUX_NONE ? mux_slots_at(&loop->slots, slot->peer) : slot;
        slot->moved_at = peer->moved_at = loop->now; /* it was not idle until now */
        mux_conn_unhold(loop, slot, MUX_HOLD_RATE);
    }
}

static void keep_deadlines(mux_loop *loop)
{
    uint32_t looks = MUX_EXPIRIES;
    mux_slot *slot;
    while ((slot = mux_wheel_expired(&loop->wheels[0], loop->told_at, &looks))) {
        if (mux_loop_waits(loop, slot)) { /* that is no idleness */
            slot->moved_at = loop->told_at;
            mux_wheel_add(&loop->wheels[0], slot);
        } else {
            mux_conn_expire(loop, slot, MUX_IDLE);
        }
    }
    const int closing = idle_ends_closing(&loop->options) ? MUX_IDLE : MUX_NOT_TAKEN;
    while ((slot = mux_wheel_expired(&loop->wheels[MUX_CLOSING - MUX_OPEN], loop->told_at, &looks)))
        mux_conn_expire(loop, slot, closing);
    mux_wheel *lingering = &loop->wheels[MUX_LINGERING - MUX_OPEN];
    while ((slot = mux_wheel_expired(lingering, loop->told_at, &looks))) {
        slot->moved_at = loop->told_at;
        if (slot->linger_until > loop->told_at && loop->backend->ops->unacknowledged(loop->backend, slot))
            mux_wheel_add(lingering, slot);
        else
            mux_conn_end(loop, slot, 0);
    }
    mux_relay_overdue(loop, &looks);
}

/* The earliest deadline of its own, or `until`. */
static int64_t next_deadline(const mux_loop *loop, int64_t until)
{
    for (int i = 0; i < MUX_LOST - MUX_OPEN; i++)
        if (mux_wheel_due(&loop->wheels[i]) < until)
            until = mux_wheel_due(&loop->wheels[i]);
    if (mux_relay_due(loop) < until)
        until = mux_relay_due(loop);
    if (mux_moved_due(loop) < until)
        until = mux_moved_due(loop);
    if (loop->rates && mux_rates_due(loop->rates) < until)
        until = mux_rates_due(loop->rates);
    if (loop->resting && loop->rest_until && loop->rest_until < until)
        until = loop->rest_until;
    return until;
}

static int64_t how_long(const mux_loop *loop, int64_t deadline)
{
    const int64_t until = next_deadline(loop, deadline);
    if (!may_wait(loop))
        return 0;
    if (until == INT64_MAX)
        return -1;
    return until > loop->now ? until - loop->now : 0;
}

static int serve(mux_loop *loop, int64_t deadline)
{
    loop->now = mux_sys_now();
    do {
        MUX_COUNT(loop->stats->turns, 1);
        const uint32_t before = loop->batch.count;
        if (loop->joined_count)
            mux_moved_leave(loop);
        bury(loop);
        if (loop->batch.count > before)
            break; /* Python closes them first: what a wait would tell of them is no use to anybody */
        if (mux_listeners_may_resume(loop))
            mux_listeners_resume(loop);
        if (loop->rates)
            keep_rates(loop);
        int done = loop->backend->ops->turn(loop->backend, how_long(loop, deadline));
        if (done < 0)
            return done;
        /* Bytes first, and the clock of the wait that told of them: after a stall (a long callback, a stopped
         * process) every deadline seems to have passed, also of those whose bytes wait. */
        if (done)
            keep_deadlines(loop);
        bury(loop);
        if (loop->batch.count || loop->woken)
            break;
    } while (loop->now < deadline && __atomic_load_n(&loop->life, __ATOMIC_RELAXED) == MUX_POLLING);
    return (int)loop->batch.count;
}

int mux_loop_send_poll(mux_loop *loop, const char *data, size_t size, int64_t deadline)
{
    int life = MUX_IDLE_LOOP;
    if (loop->forks != mux_sys_forks())
        return -ECHILD;
    if (!__atomic_compare_exchange_n(&loop->life, &life, MUX_POLLING, false, __ATOMIC_ACQ_REL,
                                     __ATOMIC_ACQUIRE))
        return -EPERM; /* another thread polls */
    __atomic_store_n(&loop->owner, mux_sys_thread(), __ATOMIC_RELAXED);
    mux_batch_begin(&loop->batch);
    loop->woken = false;
    MUX_COUNT(loop->stats->returns, 1);
    int result = size ? mux_gather_send(loop, data, size) : 0;
    if (result > 0)
        mux_batch_add(&loop->batch, 0, MUX_EV_QUEUED, result);
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

/* -- inside another loop */

int mux_loop_fd(mux_loop *loop)
{
    if (mux_loop_foreign(loop))
        return -EPERM;
    return loop ? loop->backend->ops->watched(loop->backend) : -ESTALE;
}

int64_t mux_loop_due(mux_loop *loop)
{
    if (mux_loop_foreign(loop))
        return -EPERM;
    if (!loop)
        return INT64_MAX;
    if (loop->batch.ended_first != MUX_NONE || mux_listeners_may_resume(loop) ||
        loop->backend->ops->busy(loop->backend))
        return 0;
    return next_deadline(loop, INT64_MAX);
}

/* -- what Python looks at */

const mux_event *mux_loop_events(const mux_loop *loop)
{
    return loop->batch.events;
}

uint32_t mux_loop_events_cap(const mux_loop *loop)
{
    (void)loop;
    return MUX_EVENTS;
}

const char *mux_loop_arena(const mux_loop *loop)
{
    return loop->batch.arena;
}

uint32_t mux_loop_arena_size(const mux_loop *loop)
{
    (void)loop;
    return MUX_ARENA;
}
