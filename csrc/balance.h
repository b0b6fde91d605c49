#ifndef MUX_BALANCE_H
#define MUX_BALANCE_H

#include "loop_internal.h"

/* ns between two looks at who is ahead; the others were woken too, and need far less */
#define MUX_BALANCE_PAUSE 1000000

/* Whether the client that waits is this worker's to take. */
bool mux_balance_may_accept(mux_loop *loop);

#endif
