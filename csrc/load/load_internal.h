/* What the units of the load generator share.
 *
 * Invariants:
 *   - `heap` holds exactly the open connections that may send (fewer than `depth` in flight) in the open
 *     loop, ordered by `due`; `place` is a connection's index there, or -1;
 *   - flights form a ring per connection: the oldest unanswered message first;
 *   - out_left bytes of the pattern from out_at on are still to be handed to the kernel; in_at counts the
 *     bytes that came back and were right; more than `owed` may not come;
 *   - `down` counts the connections that are down for good; `replies` is there where a reply's end, or a
 *     greeting's, is to be found, one a connection.
 */
#ifndef MUX_LOAD_INTERNAL_H
#define MUX_LOAD_INTERNAL_H

#include <stddef.h>
#include <sys/socket.h>

#include "load.h"
#include "load_reply.h"

/* The pattern repeats after a prime, so that no power of two shifts it onto itself; small enough that
 * the generator's own cache misses stay out of the figures. */
#define MUX_PATTERN_PERIOD 16381u
#define MUX_IO_MAX 262144u          /* bytes one send or recv moves at most */
#define MUX_CONNECTS_PENDING 256u   /* below the usual SYN backlog, so that no SYN is dropped */

typedef enum {
    CONN_UNUSED,
    CONN_CONNECTING,
    CONN_GREETING, /* connected, and the server has not said all that it says first */
    CONN_OPEN,
    CONN_DOWN
} mux_load_conn_state;

typedef struct {
    uint64_t due;
    uint32_t size;
} mux_flight;

/* Bytes that repeat after `period`, with so many more behind that MUX_IO_MAX can be had from anywhere. */
typedef struct {
    unsigned char *bytes;
    uint32_t period;
} mux_pattern;

typedef struct {
    uint64_t due;         /* open loop: when the next message is due */
    uint64_t free_since;  /* open loop: when it last became able to send */
    uint64_t since;       /* when the connect began */
    uint64_t wait;        /* and before which wait */
    uint64_t out_at, in_at;
    uint64_t random;      /* state of its own generator */
    uint64_t turn;        /* fixed rate: messages issued in this window */
    size_t out_left, owed; /* still to be sent; still to come back */
    uint32_t head, inflight;
    uint32_t head_done;   /* bytes of the oldest message that have come back */
    int place;
    int fd;
    uint32_t index;
    mux_load_conn_state state;
    unsigned char wants_out;
} mux_load_conn;

struct mux_load {
    mux_load_config config;
    struct sockaddr_storage address;
    socklen_t address_len;
    int epoll;
    int phase;
    int stop;
    int late;             /* the drain goes on too long: what was not sent by now is overdue */
    int connected;        /* every connection was tried */
    uint32_t count;       /* connections, the idle ones included; idle ones come last */
    uint32_t next_connect, pending;
    uint32_t oldest;      /* before it nobody is connecting */
    uint64_t waits;       /* so far: an event of one is not for a connection that began after it */
    uint64_t started, connect_started, phase_ends, spent_at;
    uint64_t warmup, measure, window_start, window_end;
    uint64_t inflight;
    uint32_t down;
    mux_load_conn *conns;
    mux_flight *flights;
    mux_load_conn **heap;
    uint32_t heap_len;
    mux_pattern sent, expected; /* the same bytes, unless there is a request */
    mux_reply_rules rules, greeting;
    mux_reply *replies;
    int framed;           /* replies end by `rules` */
    unsigned char *inbox;
    mux_load_totals totals;
    mux_hist latency, lag;
};

/* load_pace.c: the time, ns; when messages are due; whether one still belongs to the window. */
uint64_t mux_load_now(void);
int mux_load_may_issue(const mux_load *load, uint64_t due);
void mux_pace_start(mux_load *load, mux_load_conn *conn, uint64_t from);
void mux_pace_advance(mux_load *load, mux_load_conn *conn);
void mux_heap_push(mux_load *load, mux_load_conn *conn);
void mux_heap_remove(mux_load *load, mux_load_conn *conn);
uint64_t mux_random(uint64_t *state);
uint32_t mux_pace_size(mux_load *load, mux_load_conn *conn);

/* load_conn.c: one connection. `again`: it is opened anew, and asks again what was not answered. */
void mux_load_conn_open(mux_load *load, mux_load_conn *conn, uint64_t now);
void mux_load_conn_established(mux_load *load, mux_load_conn *conn);
void mux_load_conn_flush(mux_load *load, mux_load_conn *conn);
void mux_load_conn_listen(mux_load *load, mux_load_conn *conn);
void mux_load_conn_issue(mux_load *load, mux_load_conn *conn, uint64_t now);
void mux_load_conn_fail(mux_load *load, mux_load_conn *conn, int error, int kind);
void mux_load_conn_fail_errno(mux_load *load, mux_load_conn *conn, int error);
void mux_load_conn_close(mux_load *load, mux_load_conn *conn);
void mux_load_conn_again(mux_load *load, mux_load_conn *conn, uint64_t now);

/* load_events.c: what an event brings. */
void mux_load_conn_ready(mux_load *load, mux_load_conn *conn, uint32_t events);

static inline int mux_load_is_open_loop(const mux_load *load) { return load->config.rate > 0; }
static inline int mux_load_conn_is_idle(const mux_load *load, const mux_load_conn *conn)
{
    return conn->index >= (uint32_t)load->config.connections;
}

/* Whether all messages were sent that were to be. */
static inline int mux_load_is_spent(const mux_load *load)
{
    return load->config.messages && load->totals.sent >= load->config.messages;
}

static inline int mux_load_is_churn(const mux_load *load, const mux_load_conn *conn)
{
    return load->config.workload == MUX_LOAD_CHURN && !mux_load_conn_is_idle(load, conn);
}

static inline const unsigned char *mux_load_bytes_at(const mux_load *load, const mux_pattern *pattern,
                                                     const mux_load_conn *conn, uint64_t offset)
{
    /* 7919 is prime to the period: neighbours do not share a phase. A request begins at its beginning. */
    uint64_t phase = load->config.request_len ? 0 : (uint64_t)conn->index * 7919u;
    return pattern->bytes + (offset + phase) % pattern->period;
}

static inline mux_flight *mux_load_flight(mux_load *load, const mux_load_conn *conn, uint32_t position)
{
    uint32_t depth = (uint32_t)load->config.depth;
    return &load->flights[(size_t)conn->index * depth + (conn->head + position) % depth];
}

#endif
