/* What a loop is told when it is made, and what it counts. */
#ifndef MUX_OPTIONS_H
#define MUX_OPTIONS_H

#include <stdint.h>

typedef struct mux_stats {
    uint64_t turns, open, total, bytes_in, bytes_out;
    uint64_t outgoing;    /* of ours: open, or on their way */
    uint64_t returns;     /* of mux_loop_poll */
    uint64_t idle, half_closed, not_taken, refused;
    uint64_t accept_errors;
    uint64_t errors[134]; /* by errno, of connections that Python does not see; the last: all others */
    uint64_t serving;     /* not a count: whether it is a worker's that takes clients; its parent says so */
} mux_stats;

typedef struct mux_options {
    uint32_t connections;  /* open at once; as many again that we connect */
    uint32_t read_chunk;   /* bytes of one receive */
    uint32_t high, low;    /* water marks of new connections, bytes */
    int64_t idle;          /* ns without a byte moving; 0: no deadline */
    int64_t close;         /* ns that a closing one may go on while nothing is taken; 0: no deadline */
    int64_t linger;        /* ns that what comes is dropped after the last byte was sent; 0: not at all */
    int64_t half_close;    /* ns that a relay's second direction may go on; 0: no deadline */
    int64_t accept_pause;  /* ns that a listener rests after accept failed */
    int64_t stay;          /* ns that a joined pair stays before it goes to a mover */
    uint32_t reads, accepts; /* of one connection or listener in one turn, under an edge trigger */
    int wake;              /* descriptor */
    int edge;              /* 1: edge-triggered */
    int together;          /* 1: a relay ends, in order, as soon as one direction has */
    mux_stats *stats;      /* outlives the loop, so that it can be read at any time */
} mux_options;

#endif
