/* Many small writes that cross in one call, in the order in which they were made.
 *
 * Each is a slot and a size, 32 bits each in the machine's order, and then so many bytes. What one connection
 * wrote is sent in one piece, so that twenty messages to each of fifty clients are fifty sends. The slots are
 * seen ones, whose names cannot have changed: only mux_release ends their lives.
 */
#ifndef MUX_GATHER_H
#define MUX_GATHER_H

#include "loop.h"

typedef struct mux_gather mux_gather;

mux_gather *mux_gather_new(void); /* NULL: no memory */
/* Send them; how many connections have something queued now. -EINVAL: it is not what stands above, or more than
 * MUX_WRITES; then nothing was sent. */
int mux_gather_send(mux_loop *loop, const char *data, size_t size);

#endif
