/* What happens to a connection: it opens, bytes come and go, it ends. */
#ifndef MUX_CONNECTION_H
#define MUX_CONNECTION_H

#include "loop_internal.h"

/* A new connection; NULL: *failed says why, as -errno. */
mux_slot *mux_conn_open(mux_loop *loop, int handle, int verb, bool seen, int *failed);
void mux_conn_become(mux_loop *loop, mux_slot *slot, enum mux_state state); /* with that one's deadline */
int64_t mux_conn_send(mux_loop *loop, mux_slot *slot, const void *data, size_t size); /* what is queued */
void mux_conn_close(mux_loop *loop, mux_slot *slot);
void mux_conn_end(mux_loop *loop, mux_slot *slot, int32_t error); /* its protocol's part is over */
void mux_conn_expire(mux_loop *loop, mux_slot *slot, int32_t error); /* the same, with a reset */
void mux_conn_free(mux_loop *loop, mux_slot *slot);
void mux_conn_hold(mux_loop *loop, mux_slot *slot, uint8_t reason); /* read no more, for now */
void mux_conn_unhold(mux_loop *loop, mux_slot *slot, uint8_t reason);
/* For verbs: who does not read what is queued for him is read from no more, until it has gone. */
void mux_conn_choked(mux_loop *loop, mux_slot *slot);
void mux_conn_relieved(mux_loop *loop, mux_slot *slot, bool relieved);

/* The backend's reports: see mux_sink. */
bool mux_on_room(mux_loop *loop, mux_slot *slot, mux_room *room);
bool mux_on_received(mux_loop *loop, mux_slot *slot, const char *bytes, ssize_t size, bool more);
void mux_on_sent(mux_loop *loop, mux_slot *slot, ssize_t size);

#endif
