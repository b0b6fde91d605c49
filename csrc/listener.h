#ifndef MUX_LISTENER_H
#define MUX_LISTENER_H

#include "loop_internal.h"

bool mux_listeners_may_resume(const mux_loop *loop); /* those that rest, if any: it is time */
void mux_listeners_resume(mux_loop *loop);

/* The backend's reports: see mux_sink. */
bool mux_on_may_accept(mux_loop *loop, mux_slot *listener);
bool mux_on_accepted(mux_loop *loop, mux_slot *listener, int handle, const void *peer, socklen_t size);
void mux_on_accept_failed(mux_loop *loop, mux_slot *listener, int error);

#endif
