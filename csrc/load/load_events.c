/* What an event brings to a connection of the load generator: connected, greeted, answered, or the end. */
#define _GNU_SOURCE
#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "load_internal.h"

/* Take the oldest message off the ring. */
static inline void answered(mux_load *load, mux_load_conn *conn, uint64_t due, uint64_t now, int is_right)
{
    if (conn->inflight == (uint32_t)load->config.depth)
        conn->free_since = now;
    conn->head = (conn->head + 1) % (uint32_t)load->config.depth;
    conn->inflight--;
    load->inflight--;
    if (load->phase == MUX_LOAD_MEASURING && is_right)
        load->totals.received++;
    if (load->phase == MUX_LOAD_WARMING || due < load->window_start)
        return;
    if (!is_right) {
        load->totals.errors[MUX_LOAD_STATUS]++;
        load->totals.lost++;
        return;
    }
    load->totals.answered++;
    mux_hist_add(&load->latency, now - due);
}

/* Take the whole messages off the front of the ring. */
static void complete(mux_load *load, mux_load_conn *conn, size_t received, uint64_t now)
{
    conn->head_done += (uint32_t)received;
    while (conn->inflight) {
        const mux_flight *oldest = mux_load_flight(load, conn, 0);
        if (conn->head_done < oldest->size)
            break;
        conn->head_done -= oldest->size;
        answered(load, conn, oldest->due, now, 1);
    }
}

/* Keep how the first wrong reply begins. */
static void quote(mux_load *load, const unsigned char *from, size_t size)
{
    if (load->totals.seen_len)
        return;
    load->totals.seen_len = (int)(size < MUX_LOAD_SEEN_MAX ? size : MUX_LOAD_SEEN_MAX);
    memcpy(load->totals.seen, from, (size_t)load->totals.seen_len);
}

static int was_ever_right(const mux_load *load)
{
    for (uint32_t i = 0; i < load->count; i++)
        if (load->conns[i].in_at)
            return 1;
    return 0;
}

/* `begin` is where in the inbox the wrong reply begins, as far as it is there. */
static void corrupt(mux_load *load, mux_load_conn *conn, size_t begin, size_t offset, size_t size, int expected)
{
    if (!load->totals.errors[MUX_LOAD_CORRUPT]) {
        load->totals.bad_connection = conn->index;
        load->totals.bad_offset = conn->in_at + offset;
        load->totals.bad_expected = expected;
        load->totals.bad_got = load->inbox[offset];
        load->totals.bad_from_the_start = offset == 0 && !was_ever_right(load);
        load->totals.seen_len = 0; /* of a refusal */
        quote(load, load->inbox + begin, size - begin);
        if (load->totals.bad_from_the_start)
            load->stop = load->late = 1; /* none of the others is worth waiting for */
    }
    mux_load_conn_fail(load, conn, 0, MUX_LOAD_CORRUPT);
}

/* Compare what came with what was sent. Returns 0, or -1: the connection failed. */
static int verify(mux_load *load, mux_load_conn *conn, size_t size)
{
    const unsigned char *expected = mux_load_bytes_at(load, &load->expected, conn, conn->in_at);
    size_t owed = conn->owed, compared = size < owed ? size : owed;
    if (memcmp(load->inbox, expected, compared) != 0) {
        size_t offset = 0;
        while (load->inbox[offset] == expected[offset])
            offset++;
        corrupt(load, conn, 0, offset, size, expected[offset]);
        return -1;
    }
    if (size > owed) {
        corrupt(load, conn, compared, compared, size, -1);
        return -1;
    }
    return 0;
}

/* Take the replies that end in what came. Returns 0, or -1: the connection has failed, or is another. */
static int take_replies(mux_load *load, mux_load_conn *conn, size_t size, uint64_t now)
{
    mux_reply *reply = &load->replies[conn->index];
    for (size_t at = 0, begin = 0; at < size; begin = at) {
        mux_reply_verdict verdict = MUX_REPLY_WRONG; /* where nothing was asked */
        if (conn->inflight)
            at += mux_reply_take(&load->rules, reply, load->inbox + at, size - at, &verdict);
        if (verdict == MUX_REPLY_WRONG) {
            corrupt(load, conn, begin, begin, size, -1);
            return -1;
        }
        if (verdict == MUX_REPLY_MORE)
            break;
        if (verdict == MUX_REPLY_REFUSAL)
            quote(load, load->inbox + begin, at - begin);
        int closes = reply->closes;
        mux_reply_reset(reply);
        answered(load, conn, mux_load_flight(load, conn, 0)->due, now, verdict == MUX_REPLY_WHOLE);
        if (closes && !mux_load_is_churn(load, conn)) {
            mux_load_conn_again(load, conn, now);
            return -1;
        }
    }
    return 0;
}

/* HTTP lets a server end a connection between two replies, or with one: that is opened anew. */
static int may_end(mux_load *load, mux_load_conn *conn, int error, uint64_t now)
{
    if (!load->config.http || mux_load_conn_is_idle(load, conn))
        return 0;
    mux_reply *reply = &load->replies[conn->index];
    if (!mux_reply_has_begun(reply))
        return (conn->in_at || !conn->inflight) && !mux_load_is_churn(load, conn);
    mux_reply_verdict verdict = error ? MUX_REPLY_WRONG : mux_reply_at_end(reply);
    if (verdict == MUX_REPLY_WRONG)
        return 0;
    answered(load, conn, mux_load_flight(load, conn, 0)->due, now, verdict == MUX_REPLY_WHOLE);
    return 1;
}

static void end_of_stream(mux_load *load, mux_load_conn *conn, int error)
{
    uint64_t now = mux_load_now();
    if (!may_end(load, conn, error, now)) {
        if (error)
            mux_load_conn_fail_errno(load, conn, error);
        else
            mux_load_conn_fail(load, conn, 0, MUX_LOAD_CLOSED);
    } else if (mux_load_is_churn(load, conn)) {
        mux_load_conn_close(load, conn);
        mux_load_conn_issue(load, conn, now);
    } else {
        mux_load_conn_again(load, conn, now);
    }
}

/* Returns the bytes that came, or 0: none did, or the connection has ended. */
static inline size_t read_inbox(mux_load *load, mux_load_conn *conn)
{
    ssize_t size;
    do
        size = recv(conn->fd, load->inbox, MUX_IO_MAX, 0);
    while (size < 0 && errno == EINTR);
    if (size == 0 || (size < 0 && errno != EAGAIN))
        end_of_stream(load, conn, size < 0 ? errno : 0);
    return size > 0 ? (size_t)size : 0;
}

static void receive(mux_load *load, mux_load_conn *conn)
{
    size_t size = read_inbox(load, conn);
    if (!size || (!load->framed && verify(load, conn, size) < 0))
        return;
    uint64_t now = mux_load_now();
    if (load->phase == MUX_LOAD_MEASURING)
        load->totals.bytes_in += (uint64_t)size;
    if (!load->framed) {
        conn->in_at += (uint64_t)size;
        conn->owed -= size;
        complete(load, conn, size, now);
    } else if (take_replies(load, conn, size, now) < 0) {
        return;
    } else {
        conn->in_at += (uint64_t)size;
    }
    if (mux_load_is_churn(load, conn)) {
        if (conn->inflight)
            return;
        mux_load_conn_close(load, conn);
    }
    if (conn->inflight < (uint32_t)load->config.depth)
        mux_load_conn_issue(load, conn, now);
}

/* What the server says first is read up to its end, and nothing may follow: it was not asked. */
static void receive_greeting(mux_load *load, mux_load_conn *conn)
{
    mux_reply *reply = &load->replies[conn->index];
    size_t size = read_inbox(load, conn);
    if (!size)
        return;
    mux_reply_verdict verdict;
    size_t taken = mux_reply_take(&load->greeting, reply, load->inbox, size, &verdict);
    if (taken < size) {
        corrupt(load, conn, taken, taken, size, -1);
        return;
    }
    if (verdict != MUX_REPLY_WHOLE)
        return;
    mux_reply_reset(reply);
    mux_load_conn_established(load, conn);
    mux_load_conn_flush(load, conn);
}

static void finish_connect(mux_load *load, mux_load_conn *conn)
{
    int error = 0;
    socklen_t size = sizeof error;
    if (getsockopt(conn->fd, SOL_SOCKET, SO_ERROR, &error, &size) < 0)
        error = errno;
    if (error) {
        mux_load_conn_fail_errno(load, conn, error);
        return;
    }
    if (load->config.greeting_len) {
        conn->state = CONN_GREETING;
        mux_load_conn_listen(load, conn);
        return;
    }
    mux_load_conn_established(load, conn);
    mux_load_conn_flush(load, conn);
}

void mux_load_conn_ready(mux_load *load, mux_load_conn *conn, uint32_t events)
{
    if (conn->wait == load->waits)
        return; /* stale: it was opened anew while this wait's events are handled */
    if (conn->state == CONN_CONNECTING) {
        finish_connect(load, conn);
        return; /* level-triggered: what is readable is reported again */
    }
    if (conn->state == CONN_GREETING) {
        receive_greeting(load, conn);
        return;
    }
    if (conn->state == CONN_OPEN && (events & EPOLLOUT))
        mux_load_conn_flush(load, conn);
    if (conn->state == CONN_OPEN && (events & ~(uint32_t)EPOLLOUT))
        receive(load, conn);
}
