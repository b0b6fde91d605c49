/* The load generator: drives a server and checks what comes back.
 *
 * Invariants:
 *   - one generator is used by one thread at a time; mux_load_run returns at every change of phase and
 *     after each slice at the latest, so that its caller can show progress, read clocks, or stop it;
 *   - in the open loop a message is timed from the moment it was due, whatever kept it from being sent;
 *     those that were due and never answered are in the histogram too, with the time they had waited;
 *   - what is sent at offset o of connection c is a function of (seed, c, o): a lost, doubled, reordered
 *     or foreign byte is found by comparing memory, and ends the connection; with a `request`, each
 *     message is that request, and each reply must be that `reply`, or end where load_reply.h says;
 *   - where HTTP lets the server end a connection, it is opened anew, and what is unanswered asked again;
 *   - phases run CONNECTING, WARMING, MEASURING, DRAINING, IDLE, and each window starts them anew; the
 *     connections stay open between windows.
 *
 * The system calls are made here and not through syscalls.c: that is the place where the *server* is
 * made to fail, and a generator in the same process must not fail with it.
 */
#ifndef MUX_LOAD_H
#define MUX_LOAD_H

#include <stdint.h>

#include "load_hist.h"

#define MUX_LOAD_MIX_MAX 16
#define MUX_LOAD_SIZE_MAX (1 << 24)
#define MUX_LOAD_SCRIPT_MAX (1 << 16)

#define MUX_LOAD_SEEN_MAX 64 /* bytes of a wrong reply that an error may quote */

enum { MUX_LOAD_ECHO, MUX_LOAD_CHURN };
enum { MUX_LOAD_HTTP = 1, MUX_LOAD_HTTP_HEAD };
enum {
    MUX_LOAD_IDLE,
    MUX_LOAD_CONNECTING,
    MUX_LOAD_WARMING,
    MUX_LOAD_MEASURING,
    MUX_LOAD_DRAINING
};
enum {
    MUX_LOAD_REFUSED,
    MUX_LOAD_RESET,
    MUX_LOAD_CLOSED,    /* the server sent EOF while replies were outstanding, or at all */
    MUX_LOAD_TIMEOUT,
    MUX_LOAD_CORRUPT,   /* a byte that was not the one expected */
    MUX_LOAD_STATUS,    /* an HTTP reply whose status is 400 or more: it is lost, its connection goes on */
    MUX_LOAD_RESOURCES, /* descriptors, ports or memory of the client ran out */
    MUX_LOAD_OTHER,
    MUX_LOAD_ERRORS
};

typedef struct {
    const char *host;  /* a numeric address, or the path of a unix socket where port is -1 */
    int port;
    int workload;
    int connections;
    int idle;          /* further connections that are opened and left alone */
    int depth;         /* messages in flight on one connection, at most */
    int sources;       /* spread over so many source addresses from 127.0.0.2 on; 0: the kernel chooses */
    int poisson;
    int mix_len;
    int mix_size[MUX_LOAD_MIX_MAX];      /* bytes */
    double mix_upto[MUX_LOAD_MIX_MAX];   /* cumulative share, the last one is 1 */
    const unsigned char *request, *reply; /* instead of the mix; copied */
    int request_len, reply_len;           /* at most MUX_LOAD_SCRIPT_MAX */
    const unsigned char *until, *greeting; /* what a reply ends with; what the server says first does; copied */
    int until_len, greeting_len;           /* at most MUX_REPLY_UNTIL_MAX */
    int http;          /* the replies are HTTP's: MUX_LOAD_HTTP, MUX_LOAD_HTTP_HEAD without bodies, or 0 */
    uint64_t messages; /* the window ends after so many; 0: by its time alone */
    double rate;       /* messages a second over all connections; 0: the closed loop */
    double ramp;       /* seconds over which connections are opened */
    double connect_timeout;
    double reply_timeout;  /* how long the drain waits for outstanding replies */
    double spin;       /* seconds of polling after the last event before the thread sleeps */
    uint64_t seed;
} mux_load_config;

typedef struct {
    uint64_t sent, received;         /* whole messages: issued for this window; come back within it */
    uint64_t bytes_out, bytes_in;    /* moved within the window, warm-up and drain left out */
    uint64_t answered;               /* whole replies, the drain's included */
    uint64_t lost;                   /* sent, but no whole and right reply came */
    uint64_t overdue;                /* due within the window, but never sent */
    uint64_t opened, open;           /* connections: ever established, open now */
    uint64_t errors[MUX_LOAD_ERRORS];
    uint64_t window;                 /* nanoseconds the measuring phase lasted */
    uint64_t bad_connection, bad_offset;   /* where the first wrong byte was */
    int bad_expected, bad_got;
    int bad_from_the_start;          /* no byte was ever right: it is another kind of server */
    unsigned char seen[MUX_LOAD_SEEN_MAX]; /* how what was wrong, or a refusal, begins */
    int seen_len;
    int first_errno;                 /* of the first failure, 0: none */
} mux_load_totals;

typedef struct mux_load mux_load;

/* NULL on failure; then *failed_call names the call and errno says why. The config is copied. */
mux_load *mux_load_new(const mux_load_config *config, const char **failed_call);
void mux_load_free(mux_load *load);

/* Start a window of `measure` nanoseconds after `warmup`; connects first where that is still to do. */
void mux_load_begin(mux_load *load, uint64_t warmup, uint64_t measure);

/* Work for at most `slice` nanoseconds. Returns the phase, or -1: errno is epoll's. */
int mux_load_run(mux_load *load, uint64_t slice);

/* End the phase that is under way at the next mux_load_run: measuring turns into draining. */
void mux_load_stop(mux_load *load);

/* Valid until mux_load_free; consistent between calls of mux_load_run. */
const mux_load_totals *mux_load_result(const mux_load *load);
const mux_hist *mux_load_latency(const mux_load *load);
const mux_hist *mux_load_lag(const mux_load *load);  /* how late the generator itself was */

#endif
