/* The echo verb: what comes goes back, and EOF is answered with EOF once all is sent. */
#include "connection.h"
#include "verb.h"

static void received(mux_loop *loop, mux_slot *slot, const char *bytes, size_t size)
{
    mux_conn_send(loop, slot, bytes, size);
}

const mux_verb_ops mux_verb_echo = {
    .into = MUX_INTO_SCRATCH,
    .received = received,
    .ended = mux_conn_close,
    .choked = mux_conn_choked,
    .sent = mux_conn_relieved,
};
