/* The discard verb: what comes is counted and dropped; EOF is answered with EOF. */
#include "connection.h"
#include "verb.h"

const mux_verb_ops mux_verb_discard = {
    .into = MUX_INTO_NOTHING,
    .large = true,
    .ended = mux_conn_close,
    .choked = mux_conn_choked, /* by what was written before */
    .sent = mux_conn_relieved,
};
