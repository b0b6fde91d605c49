/* The operations of a script, by name. */
#ifndef SCRIPT_OPS_H
#define SCRIPT_OPS_H

#include <stdint.h>

enum op_code {
    OP_POLL, OP_DIAL, OP_ADOPT, OP_CONNECT, OP_LISTEN, OP_UNLISTEN, OP_WAKE, OP_FORK, OP_FULL, OP_PASS,
    OP_CLOSE_UNSEEN, OP_MISUSE, OP_STRAY, OP_FLOOD,
    /* of one connection */
    OP_REMOTE_SEND, OP_REMOTE_READ, OP_REMOTE_STALL, OP_REMOTE_END, OP_REMOTE_EOF, OP_SEND, OP_GATHER,
    OP_HOLD, OP_VERB, OP_RELAY, OP_CLOSE, OP_ABORT, OP_EOF, OP_MARKS, OP_RELEASE, OP_STALE,
    OP_FOREIGN, OP_LIMIT, OP_CODES
};

extern const char *const op_names[OP_CODES];

#endif
