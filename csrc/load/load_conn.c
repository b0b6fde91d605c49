/* One connection of the load generator: connect, send, receive, compare. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "load_internal.h"

#ifndef IP_BIND_ADDRESS_NO_PORT
#define IP_BIND_ADDRESS_NO_PORT 24 /* Linux 4.2: the port is chosen at connect, for the whole 4-tuple */
#endif

static int kind_of(int error)
{
    switch (error) {
    case ECONNREFUSED: return MUX_LOAD_REFUSED;
    case ECONNRESET:
    case EPIPE: return MUX_LOAD_RESET;
    case ETIMEDOUT: return MUX_LOAD_TIMEOUT;
    case EMFILE:
    case ENFILE:
    case ENOBUFS:
    case ENOMEM:
    case EADDRNOTAVAIL: return MUX_LOAD_RESOURCES;
    default: return MUX_LOAD_OTHER;
    }
}

/* Let go of the connection and of what it was about to send; its slot is free for another. */
static void shut(mux_load *load, mux_load_conn *conn)
{
    if ((conn->state == CONN_CONNECTING || conn->state == CONN_GREETING) && !mux_load_is_churn(load, conn))
        load->pending--;
    if (conn->state == CONN_OPEN)
        load->totals.open--;
    if (conn->fd >= 0)
        close(conn->fd);
    mux_heap_remove(load, conn);
    conn->fd = -1;
    conn->head_done = 0;
    conn->out_left = conn->owed = 0;
    conn->out_at = conn->in_at = 0;
    conn->wants_out = 0;
    conn->state = CONN_UNUSED;
}

void mux_load_conn_close(mux_load *load, mux_load_conn *conn)
{
    shut(load, conn);
    load->inflight -= conn->inflight;
    conn->inflight = 0;
    if (!mux_load_is_churn(load, conn)) {
        conn->state = CONN_DOWN;
        load->down++;
    }
}

void mux_load_conn_again(mux_load *load, mux_load_conn *conn, uint64_t now)
{
    shut(load, conn);
    conn->out_left = (size_t)conn->inflight * (size_t)load->config.request_len;
    mux_load_conn_issue(load, conn, now);
}

/* A churn slot that failed rests until the next mux_load_run: a dead server is not hammered. */
void mux_load_conn_fail(mux_load *load, mux_load_conn *conn, int error, int kind)
{
    load->totals.errors[kind]++;
    if (!load->totals.first_errno)
        load->totals.first_errno = error;
    load->totals.lost += conn->inflight;
    mux_load_conn_close(load, conn);
}

void mux_load_conn_fail_errno(mux_load *load, mux_load_conn *conn, int error)
{
    mux_load_conn_fail(load, conn, error, kind_of(error));
}

static void fail_errno(mux_load *load, mux_load_conn *conn)
{
    mux_load_conn_fail_errno(load, conn, errno);
}

static int watch(mux_load *load, mux_load_conn *conn, int operation, int wants_out)
{
    struct epoll_event event = {.events = EPOLLIN | (wants_out ? EPOLLOUT : 0), .data.ptr = conn};
    conn->wants_out = (unsigned char)wants_out;
    return epoll_ctl(load->epoll, operation, conn->fd, &event);
}

/* Hand the kernel what is queued. Returns 0, also where the rest must wait, or -1: the connection failed. */
static int flush(mux_load *load, mux_load_conn *conn)
{
    while (conn->out_left) {
        size_t size = conn->out_left < MUX_IO_MAX ? conn->out_left : MUX_IO_MAX;
        ssize_t sent = send(conn->fd, mux_load_bytes_at(load, &load->sent, conn, conn->out_at), size, MSG_NOSIGNAL);
        if (sent < 0) {
            if (errno == EINTR)
                continue;
            if (errno == EAGAIN)
                return 0;
            fail_errno(load, conn);
            return -1;
        }
        conn->out_at += (uint64_t)sent;
        conn->out_left -= (size_t)sent;
        if (load->phase == MUX_LOAD_MEASURING)
            load->totals.bytes_out += (uint64_t)sent;
    }
    return 0;
}

void mux_load_conn_flush(mux_load *load, mux_load_conn *conn)
{
    if (flush(load, conn) < 0)
        return;
    int wants_out = conn->out_left > 0;
    if (wants_out != conn->wants_out && watch(load, conn, EPOLL_CTL_MOD, wants_out) < 0)
        fail_errno(load, conn);
}

void mux_load_conn_listen(mux_load *load, mux_load_conn *conn)
{
    if (watch(load, conn, EPOLL_CTL_MOD, 0) < 0)
        fail_errno(load, conn);
}

static void queue_message(mux_load *load, mux_load_conn *conn, uint64_t now)
{
    mux_flight *next = mux_load_flight(load, conn, conn->inflight);
    next->due = now;
    if (mux_load_is_open_loop(load)) {
        next->due = conn->due;
        if (load->phase != MUX_LOAD_WARMING) {
            uint64_t could = conn->due > conn->free_since ? conn->due : conn->free_since;
            mux_hist_add(&load->lag, now > could ? now - could : 0);
        }
        mux_pace_advance(load, conn);
    }
    uint32_t size = mux_pace_size(load, conn);
    next->size = load->config.reply_len ? (uint32_t)load->config.reply_len : size;
    conn->out_left += size;
    conn->owed += next->size;
    conn->inflight++;
    load->inflight++;
    if (next->due >= load->window_start && load->phase != MUX_LOAD_WARMING)
        load->totals.sent++;
}

/* Send what may be sent now: up to `depth` messages, in the open loop only those that are due. */
void mux_load_conn_issue(mux_load *load, mux_load_conn *conn, uint64_t now)
{
    int paced = mux_load_is_open_loop(load);
    uint32_t depth = (uint32_t)load->config.depth;
    mux_heap_remove(load, conn);
    if (conn->state == CONN_DOWN)
        return;
    while (conn->inflight < depth && (!paced || conn->due <= now) &&
           mux_load_may_issue(load, paced ? conn->due : now))
        queue_message(load, conn, now);
    if (conn->out_left && conn->state == CONN_UNUSED)
        mux_load_conn_open(load, conn, now);
    else if (conn->out_left && conn->state == CONN_OPEN)
        mux_load_conn_flush(load, conn);
    if (paced && conn->state != CONN_DOWN && conn->inflight < depth &&
        mux_load_may_issue(load, conn->due))
        mux_heap_push(load, conn);
}

static int bind_source(const mux_load *load, const mux_load_conn *conn)
{
    unsigned turn = conn->index % (unsigned)load->config.sources;
    struct sockaddr_in source = {.sin_family = AF_INET};
    int on = 1;
    /* 127.0.0.2, 127.0.0.3 ... 127.0.0.251, 127.0.1.2 ...: each brings 28,000 ports of its own. */
    source.sin_addr.s_addr = htonl(0x7f000002u + (turn / 250u << 8) + turn % 250u);
    /* Without the option (before Linux 4.2) the bind still works, with fewer ports. */
    setsockopt(conn->fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof on);
    return bind(conn->fd, (struct sockaddr *)&source, sizeof source);
}

void mux_load_conn_established(mux_load *load, mux_load_conn *conn)
{
    if (!mux_load_is_churn(load, conn))
        load->pending--;
    conn->state = CONN_OPEN;
    load->totals.opened++;
    load->totals.open++;
}

void mux_load_conn_open(mux_load *load, mux_load_conn *conn, uint64_t now)
{
    int on = 1;
    conn->since = now;
    conn->wait = load->waits;
    conn->state = CONN_CONNECTING;
    if (load->replies)
        mux_reply_reset(&load->replies[conn->index]);
    if (!mux_load_is_churn(load, conn))
        load->pending++;
    conn->fd = socket(load->address.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (conn->fd < 0 || (load->config.sources && bind_source(load, conn) < 0)) {
        fail_errno(load, conn);
        return;
    }
    /* One message goes out at once with or without Nagle (RFC 896); a unix socket has no such option. */
    if (!mux_load_is_churn(load, conn) && load->address.ss_family != AF_UNIX)
        setsockopt(conn->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    if (connect(conn->fd, (struct sockaddr *)&load->address, load->address_len) < 0 &&
        errno != EINPROGRESS) {
        fail_errno(load, conn);
        return;
    }
    /* Over loopback the handshake is done by now: a churn slot saves a wake-up by sending right away. */
    if (mux_load_is_churn(load, conn) && !load->config.greeting_len) {
        size_t before = conn->out_left;
        if (flush(load, conn) < 0)
            return;
        if (conn->out_left < before)
            mux_load_conn_established(load, conn);
    }
    if (watch(load, conn, EPOLL_CTL_ADD, conn->state == CONN_CONNECTING || conn->out_left) < 0)
        fail_errno(load, conn);
}
