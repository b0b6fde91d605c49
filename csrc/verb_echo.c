/* The echo verb: what comes goes back, and EOF is answered with EOF once all is sent. Who does not read what
 * he gets is read from no more. */
#include "connection.h"
#include "verb.h"

static void received(mux_loop *loop, mux_slot *slot, const char *bytes, size_t size)
{
    mux_conn_send(loop, slot, bytes, size);
}

static void choked(mux_loop *loop, mux_slot *slot)
{
    mux_conn_hold(loop, slot, MUX_HOLD_BACKLOG);
}

static void sent(mux_loop *loop, mux_slot *slot, bool relieved)
{
    if (relieved)
        mux_conn_unhold(loop, slot, MUX_HOLD_BACKLOG);
}

const mux_verb_ops mux_verb_echo = {
    .into = MUX_INTO_SCRATCH,
    .received = received,
    .ended = mux_conn_close,
    .choked = choked,
    .sent = sent,
};
