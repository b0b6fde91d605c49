/* A mover: a loop of its own in a thread of its own, which has joined pairs and nothing else.
 *
 * One thread calls mux_mover_run, and stays there until mux_mover_stop. The loop that gives it pairs runs in another;
 * what goes between the two stands in moved.h.
 */
#ifndef MUX_MOVER_H
#define MUX_MOVER_H

#include "loop.h"

typedef struct mux_mover mux_mover;

/* Its options are those of the giving loop, with a wake descriptor and counters of its own. `wake` and `wake_giver`
 * are what to write to, for the one loop and the other. NULL: *failed names the call, *error is its errno. */
mux_mover *mux_mover_new(const mux_options *options, int wake, int wake_giver, const char **failed, int *error);
void mux_loop_give_to(mux_loop *loop, mux_mover *mover); /* pairs that are joined from now on */
int mux_mover_run(mux_mover *mover); /* 0, or -errno: what ended it by itself; its pairs have ended with that */
void mux_mover_drain(mux_mover *mover); /* wake the giving loop whenever a connection is gone */
void mux_mover_stop(mux_mover *mover); /* from any thread: end what it has, and run no more */
void mux_mover_free(mux_mover *mover); /* when it runs no more, and the giving loop is gone; or in a fork */

#endif
