/* The load generator's life: connect, warm up, measure, drain. The invariants are in load.h. */
#define _GNU_SOURCE
#include "load.h"

#include <errno.h>
#include <string.h>
#include <sys/epoll.h>

#include "load_internal.h"

#define EVENTS 64       /* a turn of the loop: small, so that messages that fall due wait little */
#define MILLISECOND 1000000u
#define CONNECT_TURN (5u * MILLISECOND) /* how often the ramp and the connect deadlines are looked at */

static uint64_t nanoseconds(double seconds)
{
    return (uint64_t)(seconds * 1e9);
}

void mux_load_begin(mux_load *load, uint64_t warmup, uint64_t measure)
{
    uint64_t opened = load->totals.opened, open = load->totals.open;
    memset(&load->totals, 0, sizeof load->totals);
    load->totals.opened = opened;
    load->totals.open = open;
    mux_hist_reset(&load->latency);
    mux_hist_reset(&load->lag);
    load->warmup = warmup;
    load->measure = measure;
    load->stop = load->late = 0;
    load->started = load->spent_at = 0;
    load->phase = load->connected ? MUX_LOAD_WARMING : MUX_LOAD_CONNECTING;
}

void mux_load_stop(mux_load *load)
{
    load->stop = 1;
}

static void issue_all(mux_load *load, uint64_t now)
{
    for (uint32_t i = 0; i < (uint32_t)load->config.connections; i++)
        mux_load_conn_issue(load, &load->conns[i], now);
}

static void start_sending(mux_load *load, uint64_t now)
{
    load->started = now;
    for (uint32_t i = 0; mux_load_is_open_loop(load) && i < (uint32_t)load->config.connections; i++) {
        load->conns[i].free_since = now;
        mux_pace_start(load, &load->conns[i], now);
    }
    issue_all(load, now);
}

static void start_warming(mux_load *load, uint64_t now)
{
    load->phase_ends = now + load->warmup;
    start_sending(load, now);
}

static void start_measuring(mux_load *load, uint64_t now)
{
    mux_load_totals *totals = &load->totals;
    totals->sent = totals->received = totals->answered = totals->bytes_in = totals->bytes_out = 0;
    load->window_start = now;
    load->phase_ends = now + load->measure;
    if (!load->warmup) /* nothing was sent, then: the first message is the window's first */
        start_sending(load, now);
}

/* What falls due in a phase is done when the caller comes back: it has read its clocks by then. */
static void enter(mux_load *load, uint64_t now)
{
    if (load->phase == MUX_LOAD_CONNECTING && !load->connect_started)
        load->connect_started = now;
    else if (load->phase == MUX_LOAD_WARMING && !load->started)
        start_warming(load, now);
    else if (load->phase == MUX_LOAD_MEASURING && !load->phase_ends)
        start_measuring(load, now);
    else if (load->phase == MUX_LOAD_DRAINING && !load->phase_ends)
        load->phase_ends = now + (load->late ? 0 : nanoseconds(load->config.reply_timeout));
    /* Churn slots that failed get their next try here. */
    if (load->config.workload == MUX_LOAD_CHURN && load->phase != MUX_LOAD_CONNECTING)
        issue_all(load, now);
}

static void connect_more(mux_load *load, uint64_t now)
{
    double share = 1;
    if (load->config.ramp > 0)
        share = (double)(now - load->connect_started) / (load->config.ramp * 1e9);
    uint32_t allowed = share >= 1 ? load->count : (uint32_t)(share * load->count) + 1;
    while (load->next_connect < load->count && load->next_connect < allowed &&
           load->pending < MUX_CONNECTS_PENDING)
        mux_load_conn_open(load, &load->conns[load->next_connect++], now);
    uint64_t patience = nanoseconds(load->config.connect_timeout);
    for (uint32_t i = load->oldest; load->pending && i < load->next_connect; i++) {
        mux_load_conn_state state = load->conns[i].state;
        int waits = state == CONN_CONNECTING || state == CONN_GREETING;
        if (waits && now - load->conns[i].since <= patience)
            break; /* they began in this order: the rest is younger */
        if (waits)
            mux_load_conn_fail(load, &load->conns[i], ETIMEDOUT, MUX_LOAD_TIMEOUT);
        load->oldest += i == load->oldest;
    }
}

static int is_drained(const mux_load *load)
{
    return !load->inflight && (load->late || !load->heap_len || mux_load_is_spent(load) ||
                               load->heap[0]->due >= load->window_end);
}

/* Whatever was due and is not answered counts as lost or overdue, with the time it has waited. */
static void settle(mux_load *load, uint64_t now)
{
    uint32_t depth = (uint32_t)load->config.depth;
    while (load->heap_len)
        mux_heap_remove(load, load->heap[0]);
    for (uint32_t i = 0; i < (uint32_t)load->config.connections; i++) {
        mux_load_conn *conn = &load->conns[i];
        for (uint32_t k = 0; k < conn->inflight; k++) {
            uint64_t due = load->flights[(size_t)i * depth + (conn->head + k) % depth].due;
            if (due >= load->window_start)
                mux_hist_add(&load->latency, now - due);
        }
        if (conn->inflight && load->totals.bad_from_the_start) { /* it was not given its time */
            load->totals.lost += conn->inflight;
            mux_load_conn_close(load, conn);
        } else if (conn->inflight) {
            mux_load_conn_fail(load, conn, ETIMEDOUT, MUX_LOAD_TIMEOUT);
        }
        while (mux_load_is_open_loop(load) && conn->due < load->window_end && !mux_load_is_spent(load)) {
            if (conn->due >= load->window_start) {
                mux_hist_add(&load->latency, now > conn->due ? now - conn->due : 0);
                load->totals.overdue++;
            }
            mux_pace_advance(load, conn);
        }
    }
}

static void end_window(mux_load *load, uint64_t now)
{
    if (load->phase != MUX_LOAD_MEASURING) {  /* stopped before it began */
        load->window_start = now;
    }
    load->window_end = now;
    load->totals.window = now - load->window_start;
    load->phase = MUX_LOAD_DRAINING;
    load->phase_ends = 0;
}

/* Whether all that was to be sent is answered, or was given its time: the last replies are within the window,
 * too. A drain follows as always, so that a process that stood still loses none. */
static int is_done(mux_load *load, uint64_t now)
{
    if (!mux_load_is_spent(load))
        return 0;
    if (!load->spent_at)
        load->spent_at = now;
    return !load->inflight || now - load->spent_at >= nanoseconds(load->config.reply_timeout);
}

/* Returns 1 where the phase has changed. */
static int advance(mux_load *load, uint64_t now)
{
    int dead = load->down == load->count;
    switch (load->phase) {
    case MUX_LOAD_CONNECTING:
        connect_more(load, now);
        if (!load->stop && (load->pending || load->next_connect < load->count))
            return 0;
        load->connected = 1;
        load->phase = load->stop || dead ? MUX_LOAD_IDLE : MUX_LOAD_WARMING;
        return 1;
    case MUX_LOAD_WARMING:
        if (load->stop || dead) {
            end_window(load, now);
            return 1;
        }
        if (now < load->phase_ends)
            return 0;
        load->phase = MUX_LOAD_MEASURING;
        load->phase_ends = 0;
        return 1;
    case MUX_LOAD_MEASURING:
        if (!is_done(load, now) && now < load->phase_ends && !load->stop && !dead)
            return 0;
        end_window(load, now);
        return 1;
    case MUX_LOAD_DRAINING: {
        /* In the second half nothing more is sent: an overloaded server is behind, it loses nothing. It
         * is counted from here: where this process stood still, what it sent last has its time too. */
        uint64_t half = nanoseconds(load->config.reply_timeout) / 2;
        if (!load->late && now >= load->phase_ends - half) {
            load->late = 1;
            load->phase_ends = now + half;
        }
        if (!is_drained(load) && now < load->phase_ends)
            return 0;
        settle(load, now);
        load->phase = MUX_LOAD_IDLE;
        return 1;
    }
    default:
        return 1;
    }
}

static void issue_due(mux_load *load, uint64_t now)
{
    while (load->heap_len && load->heap[0]->due <= now &&
           mux_load_may_issue(load, load->heap[0]->due))
        mux_load_conn_issue(load, load->heap[0], now);
}

/* The milliseconds epoll_wait may sleep: rounded down before a message is due, so that the last one is
 * polled away and the schedule kept; rounded up otherwise. */
static int patience(const mux_load *load, uint64_t now, uint64_t until, uint64_t last_event)
{
    uint64_t limit = until;
    int is_due_next = 0;
    if (load->phase == MUX_LOAD_CONNECTING && now + CONNECT_TURN < limit)
        limit = now + CONNECT_TURN;
    else if (load->phase != MUX_LOAD_CONNECTING && load->phase_ends < limit)
        limit = load->phase_ends;
    if (load->heap_len && load->heap[0]->due < limit && !mux_load_is_spent(load)) {
        limit = load->heap[0]->due;
        is_due_next = 1;
    }
    if (limit <= now || now - last_event < nanoseconds(load->config.spin))
        return 0;
    uint64_t gap = limit - now;
    return (int)((is_due_next ? gap : gap + MILLISECOND - 1) / MILLISECOND);
}

int mux_load_run(mux_load *load, uint64_t slice)
{
    struct epoll_event events[EVENTS];
    uint64_t now = mux_load_now(), until = now + slice, last_event = now;
    enter(load, now);
    for (;;) {
        if (advance(load, now))
            return load->phase;
        if (now >= until) {
            if (load->phase == MUX_LOAD_MEASURING)
                load->totals.window = now - load->window_start;
            return load->phase;
        }
        issue_due(load, now);
        int ready = epoll_wait(load->epoll, events, EVENTS, patience(load, now, until, last_event));
        if (ready < 0 && errno != EINTR)
            return -1;
        load->waits++;
        now = mux_load_now();
        if (ready > 0)
            last_event = now;
        for (int i = 0; i < ready; i++) {
            mux_load_conn_ready(load, events[i].data.ptr, events[i].events);
            if (load->heap_len) {
                now = mux_load_now();
                issue_due(load, now);
            }
        }
    }
}

const mux_load_totals *mux_load_result(const mux_load *load)
{
    return &load->totals;
}

const mux_hist *mux_load_latency(const mux_load *load)
{
    return &load->latency;
}

const mux_hist *mux_load_lag(const mux_load *load)
{
    return &load->lag;
}
