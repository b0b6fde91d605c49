#ifndef MUX_CONNECT_H
#define MUX_CONNECT_H

#include "loop_internal.h"

void mux_on_connected(mux_loop *loop, mux_slot *slot, int error); /* see mux_sink */

#endif
