/* The load generator's life: create, connect, warm up, measure, drain. The invariants are in load.h. */
#define _GNU_SOURCE
#include "load.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/un.h>
#include <unistd.h>

#include "load_internal.h"
#include "syscalls.h"

#define EVENTS 64       /* a turn of the loop: small, so that messages that fall due wait little */
#define MILLISECOND 1000000u
#define CONNECT_TURN (5u * MILLISECOND) /* how often the ramp and the connect deadlines are looked at */

static uint64_t nanoseconds(double seconds)
{
    return (uint64_t)(seconds * 1e9);
}

static int set_address(mux_load *load)
{
    if (load->config.port < 0) {
        struct sockaddr_un *address = (struct sockaddr_un *)&load->address;
        size_t size = strlen(load->config.host);
        if (size >= sizeof address->sun_path) {
            errno = ENAMETOOLONG;
            return -1;
        }
        address->sun_family = AF_UNIX;
        memcpy(address->sun_path, load->config.host, size + 1);
        load->address_len = sizeof *address;
        return 0;
    }
    char port[16];
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICHOST | AI_NUMERICSERV};
    struct addrinfo *found;
    snprintf(port, sizeof port, "%d", load->config.port);
    if (getaddrinfo(load->config.host, port, &hints, &found) != 0) {
        errno = EINVAL;
        return -1;
    }
    memcpy(&load->address, found->ai_addr, found->ai_addrlen);
    load->address_len = found->ai_addrlen;
    freeaddrinfo(found);
    return 0;
}

/* Copy `period` bytes, or invent them where there are none, and repeat them. */
static int make_pattern(mux_pattern *pattern, const unsigned char *from, uint32_t period,
                        uint64_t *state)
{
    pattern->period = period;
    pattern->bytes = mux_sys_allocate(1, (size_t)period + MUX_IO_MAX);
    if (!pattern->bytes)
        return -1;
    for (size_t i = 0; i < period; i++)
        pattern->bytes[i] = from ? from[i] : (unsigned char)(mux_random(state) >> 56);
    for (size_t i = period; i < (size_t)period + MUX_IO_MAX; i++)
        pattern->bytes[i] = pattern->bytes[i - period];
    return 0;
}

static int make_patterns(mux_load *load)
{
    mux_load_config *config = &load->config;
    uint64_t state = config->seed | 1, same = state;
    const unsigned char *request = config->request_len ? config->request : NULL;
    const unsigned char *reply = config->request_len ? config->reply : NULL;
    uint32_t sent = request ? (uint32_t)config->request_len : MUX_PATTERN_PERIOD;
    uint32_t back = reply ? (uint32_t)config->reply_len : MUX_PATTERN_PERIOD;
    if (make_pattern(&load->sent, request, sent, &state) < 0 ||
        make_pattern(&load->expected, reply, back, &same) < 0)
        return -1;
    config->request = config->reply = NULL; /* the caller's memory */
    return 0;
}

static void fill(mux_load *load)
{
    uint64_t state = load->config.seed | 1;
    for (uint32_t i = 0; i < load->count; i++) {
        mux_load_conn *conn = &load->conns[i];
        conn->index = i;
        conn->fd = conn->place = -1;
        conn->random = mux_random(&state) | 1;
    }
}

mux_load *mux_load_new(const mux_load_config *config, const char **failed_call)
{
    mux_load *load = mux_sys_allocate(1, sizeof *load);
    *failed_call = "calloc";
    if (!load)
        return NULL;
    load->epoll = -1;
    load->config = *config;
    load->count = (uint32_t)config->connections + (uint32_t)config->idle;
    if (config->workload == MUX_LOAD_CHURN)
        load->next_connect = (uint32_t)config->connections;
    *failed_call = "address";
    if (set_address(load) < 0)
        goto fail;
    load->config.host = NULL; /* the caller's memory */
    *failed_call = "calloc";
    load->conns = mux_sys_allocate(load->count, sizeof *load->conns);
    load->flights = mux_sys_allocate((size_t)config->connections * (size_t)config->depth, sizeof *load->flights);
    load->heap = mux_sys_allocate((size_t)config->connections, sizeof *load->heap);
    load->inbox = mux_sys_allocate(1, MUX_IO_MAX);
    if (!load->conns || !load->flights || !load->heap || !load->inbox || make_patterns(load) < 0)
        goto fail;
    fill(load);
    *failed_call = "epoll_create1";
    load->epoll = epoll_create1(EPOLL_CLOEXEC);
    if (load->epoll < 0)
        goto fail;
    *failed_call = NULL;
    return load;
fail:
    {
        int error = errno;
        mux_load_free(load);
        errno = error;
    }
    return NULL;
}

void mux_load_free(mux_load *load)
{
    if (!load)
        return;
    for (uint32_t i = 0; load->conns && i < load->count; i++)
        if (load->conns[i].fd >= 0)
            close(load->conns[i].fd);
    if (load->epoll >= 0)
        close(load->epoll);
    mux_sys_free(load->conns);
    mux_sys_free(load->flights);
    mux_sys_free(load->heap);
    mux_sys_free(load->sent.bytes);
    mux_sys_free(load->expected.bytes);
    mux_sys_free(load->inbox);
    mux_sys_free(load);
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
    load->started = 0;
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

static void start_warming(mux_load *load, uint64_t now)
{
    load->started = now;
    load->phase_ends = now + load->warmup;
    for (uint32_t i = 0; mux_load_is_open_loop(load) && i < (uint32_t)load->config.connections; i++) {
        load->conns[i].free_since = now;
        mux_pace_start(load, &load->conns[i], now);
    }
    issue_all(load, now);
}

static void start_measuring(mux_load *load, uint64_t now)
{
    mux_load_totals *totals = &load->totals;
    totals->sent = totals->received = totals->answered = totals->bytes_in = totals->bytes_out = 0;
    load->window_start = now;
    load->phase_ends = now + load->measure;
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
        load->phase_ends = now + nanoseconds(load->config.reply_timeout);
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
        int waits = load->conns[i].state == CONN_CONNECTING;
        if (waits && now - load->conns[i].since <= patience)
            break; /* they began in this order: the rest is younger */
        if (waits)
            mux_load_conn_fail(load, &load->conns[i], ETIMEDOUT, MUX_LOAD_TIMEOUT);
        load->oldest += i == load->oldest;
    }
}

static int is_drained(const mux_load *load)
{
    return !load->inflight &&
           (load->late || !load->heap_len || load->heap[0]->due >= load->window_end);
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
        if (conn->inflight)
            mux_load_conn_fail(load, conn, ETIMEDOUT, MUX_LOAD_TIMEOUT);
        while (mux_load_is_open_loop(load) && conn->due < load->window_end) {
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

/* Returns 1 where the phase has changed. */
static int advance(mux_load *load, uint64_t now)
{
    int dead = !load->totals.open && load->config.workload != MUX_LOAD_CHURN;
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
        if (now < load->phase_ends && !load->stop && !dead)
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
    if (load->heap_len && load->heap[0]->due < limit) {
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
