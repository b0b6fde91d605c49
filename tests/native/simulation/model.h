/* What is known of a run: its connections, as the remote ends and the Python side see them.
 *
 * A connection has two ends here. What the remote end sends is a stream of bytes that follow from
 * (source, offset), so that every byte can be told from every other; so is what Python writes. What the
 * remote end is to get is a list of parts: pieces of streams.
 */
#ifndef MODEL_H
#define MODEL_H

#include <stdbool.h>
#include <stdint.h>

#include "loop.h"
#include "rng.h"
#include "world.h"

#define CONNS 64
#define LISTENERS 4
#define GATHERED_MOST 16
#define PARTS_MOST 40
#define SLOTS_MOST 4096
#define RATES 3
#define UNLIMITED UINT64_MAX

typedef struct part {
    int source; /* 2 * connection: what its remote end sends; and 1: what Python writes */
    uint64_t from, size;
} part;

enum side { /* what Python has of a connection */
    SIDE_NONE,       /* nothing yet: it waits to be accepted */
    SIDE_CONNECTING, /* an attempt */
    SIDE_READY,      /* connected, and not yet served */
    SIDE_OPEN,
    SIDE_CLOSING,
    SIDE_LOST, /* it has heard so, and not released it yet */
    SIDE_OVER,
    SIDE_UNSEEN /* nothing, ever again: under a listener's verb, forgotten, or refused */
};

typedef struct conn {
    /* the remote end */
    int end; /* -1: none (yet) */
    uint64_t sent, got;
    bool fin, away, reset; /* it sent EOF; it has closed; with a reset */
    bool deaf;             /* what it sends is refused */
    bool stalled;          /* it reads only when told to */
    bool got_eof;
    int got_error;
    part parts[PARTS_MOST];
    int part_count, part_at;
    uint64_t part_done;
    bool unwritten; /* no room for a further part: what comes next is not checked */
    /* Python's end */
    uint8_t side, verb;
    uint32_t slot, generation;
    int file, listener, target;
    uint16_t port; /* of who dialled; of an outgoing one: our own */
    int peer; /* of a relay; -1: none */
    bool held, eof_kept, eof_heard, eof_written, closed, aborted, refused, doomed;
    bool pending, choked; /* something is queued; more than the high mark was */
    uint32_t held_batch, delivered, drained_batch, died_batch;
    uint64_t seen, kept_from, written, closed_at;
    int64_t closed_time;
    uint32_t high, low;
    uint8_t rated;       /* a bit for each rate that it counts against */
    uint64_t rated_from; /* what it had received when it began to */
    uint64_t most_queued; /* under a verb: what it may have queued at the most */
    int lost, connected; /* how often the event came */
    int32_t why;         /* what MUX_EV_LOST said */
} conn;

struct model {
    mux_options options;
    mux_stats stats;
    mux_loop *loop;
    rng chance; /* what the Python side does on its own */
    bool reacts; /* it does something when an event comes; it polls only otherwise */
    bool plain;  /* all comes to rest after each operation: the same on a real kernel */
    bool guest;  /* it polls as a guest of another loop does */
    int watched; /* what that watches; -1: nothing yet */
    bool ending; /* no new connections, no new reactions */
    conn conns[CONNS];
    int conn_count;
    struct {
        int fd, verb;
        int64_t slot; /* -1: not listening */
    } listeners[LISTENERS];
    struct {
        bool made;
        uint32_t number;
        int64_t since;
        uint64_t received; /* by those that count no more */
    } rates[RATES];
    int16_t owner[SLOTS_MOST]; /* of a slot: a connection; -1: nobody */
    uint32_t refused_batch[SLOTS_MOST];
    uint32_t batch; /* polls so far */
    uint32_t crowded_batch; /* the last that was full */
    bool walking;
    int gathered[GATHERED_MOST], gathered_size[GATHERED_MOST], gathered_count;
    uint64_t events;
    int adopted;
    bool woken; /* the wake descriptor was written to */
};

extern struct model model;

static inline unsigned char stream_byte(int source, uint64_t offset)
{
    return (unsigned char)(((uint32_t)offset * 2654435761u + (uint32_t)source * 0x9E3779B1u) >> 24);
}

static inline conn *conn_at(int index)
{
    return &model.conns[index];
}

static inline int conn_index(const conn *of)
{
    return (int)(of - model.conns);
}

void stream_fill(char *to, int source, uint64_t from, size_t size);
/* How many of `data` are not as they should be: 0, or 1 + the place of the first. */
size_t stream_wrong(const char *data, int source, uint64_t from, size_t size);

/* remote.c: the remote ends */
conn *conn_new(int end);
void remote_send(conn *to, uint32_t size);
void remote_read(conn *from, uint32_t most);
void remote_end(conn *of, int how); /* 0: EOF, 1: close, 2: reset */
void remote_turn(bool all);         /* every end that is not stalled reads; all: stalled ones too */
void remote_expect(conn *of, int source, uint64_t from, uint64_t size); /* what it is to get next */
/* What it has to have got, at the least, if nothing was lost; at the most. */
uint64_t remote_least(const conn *of);
uint64_t remote_most(const conn *of);

/* side.c: what Python calls */
bool side_alive(const conn *of); /* its name is good, and Python has not ended it */
void side_begin(conn *of, uint32_t slot, uint32_t generation, uint8_t side);
void side_serve(conn *of);
void side_flush(void);
size_t side_gathered(const char **data); /* what is to cross now, in the form of gather.h */
void side_crossed(int told, bool polled); /* what C said to it */
void side_gather(conn *of, uint32_t size);
void side_send(conn *of, uint32_t size);
void side_hold(conn *of, bool on);
void side_verb(conn *of, int verb);
void side_relay(conn *of, conn *peer);
void side_close(conn *of);
void side_abort(conn *of);
void side_eof(conn *of);
void side_marks(conn *of, uint32_t high, uint32_t low);
void side_release(conn *of);
void side_refuse(conn *of);
void side_stale(conn *of, uint32_t call);
void side_foreign(conn *of, uint32_t call);
void side_misuse(uint32_t what);
void side_listen(int index, int verb);
void side_unlisten(int index);
void side_dial(int index, bool hasty); /* hasty: it sends, and resets at once */
void side_adopt(int verb, bool seen);
void side_connect(int kind);
void side_close_unseen(bool at_once);

/* side_rates.c */
void side_limit(conn *of, uint32_t dice);
void side_rates_check(void);
void side_rates_end(void); /* all may go on */

/* batch.c: what Python does with a batch of events */
void side_poll(int64_t wait);
/* guest.c: the same, or what a guest does in that time. Whether nothing more is to be done without a cause. */
bool side_wait(int64_t wait);
/* final.c: faults are over: everything has to come to its end */
void final_settle(const char *when, int64_t pause); /* poll until nothing moves any more */
void final_check(int how);
int final_report(char *to, size_t size); /* what each remote end got, and Python heard */

#endif
