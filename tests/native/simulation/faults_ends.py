"""Planted faults of ends, deadlines and listeners; and bugs that the simulation has found."""

from __future__ import annotations

from .fault import (
    API,
    CONNECT,
    CONNECTION,
    EPOLL,
    LISTENER,
    LOOP,
    READY,
    RELAY,
    WHEEL,
    one,
)

ENDS = [
    # -- ends
    one("EOF is told twice", CONNECTION, "    mux_conn_hold(loop, slot, MUX_HOLD_EOF);\n", ""),
    one(
        "EOF is sent before what is queued",
        API,
        "    if (slot->queue.size)\n        return 0;\n",
        "",
    ),
    one(
        "EOF is forgotten when the queue empties",
        CONNECTION,
        "    if (slot->eof_wanted) {",
        "    if (false) {",
    ),
    one(
        "EOF is not passed on by a relay", RELAY, "    if (!peer->queue.size) {", "    if (false) {"
    ),
    one(
        "EOF of one direction ends both", RELAY, "if (both_have_ended(slot, peer)) {", "if (true) {"
    ),
    one(
        "a relay outlives both its directions",
        RELAY,
        "    if (peer && both_have_ended(slot, peer))\n        mux_conn_end(loop, slot, 0);",
        "    (void)peer;",
    ),
    one(
        "a relay's other side is left open",
        CONNECTION,
        "    if (verb->lost)\n        verb->lost(loop, slot, error);",
        "    (void)verb;",
    ),
    one(
        "the list of the half-closed is torn",
        RELAY,
        "loop->half_closed_last = slot->half_closed_prev;",
        "loop->half_closed_first = slot->half_closed_prev;",
    ),
    one(
        "a close drops what is queued",
        CONNECTION,
        "if (slot->state == MUX_CLOSING && !slot->queue.size)",
        "if (slot->state == MUX_CLOSING)",
    ),
    one(
        "nobody lingers",
        CONNECTION,
        "if (slot->unread && !(slot->hold",
        "if (false && !(slot->hold",
    ),  # B11
    one(
        "what lingers stays for ever",
        LOOP,
        "while ((slot = mux_wheel_expired(lingering,",
        "while (false && (slot = mux_wheel_expired(lingering,",
    ),
    one(
        "a failed connect is told as made",
        CONNECT,
        "MUX_EV_CONNECTED, error)",
        "MUX_EV_CONNECTED, 0)",
    ),
    # -- deadlines
    one(
        "deadlines are kept before what has come is read",
        LOOP,
        "        int done = loop->backend",
        "        loop->told_at = loop->now;\n"
        "        keep_deadlines(loop);\n        int done = loop->backend",
    ),  # B6
    one(
        "who has moved is ended as idle",
        WHEEL,
        "if (slot->moved_at + wheel->after <= now)",
        "if (slot->moved_at <= now)",
    ),
    one(
        "the wheel forgets who has moved",
        WHEEL,
        "        mux_wheel_add(wheel, slot);\n        wheel->next = before;",
        "        wheel->next = before;",
    ),
    one(
        "the wheel's list loses who is before",
        WHEEL,
        "wheel_next)->wheel_prev = slot->wheel_prev;",
        "wheel_next)->wheel_prev = MUX_NONE;",
    ),
    # -- listeners
    one(
        "a failed accept is tried again at once",
        LISTENER,
        "    rest(loop, listener);\n}\n\nbool mux_listeners",
        "}\n\nbool mux_listeners",
    ),
    one(
        "a listener rests for ever",
        LISTENER,
        "            mux_conn_unhold(loop, slot, MUX_HOLD_REST);",
        "            (void)0;",
    ),
    one(
        "there is no cap on connections",
        LISTENER,
        "loop->stats->open >= loop->options.connections",
        "false",
    ),
    one(
        "an accepted connection that cannot be served leaks",
        LISTENER,
        "        loop->backend->ops->release(loop->backend, &refused);\n",
        "        (void)refused;\n",
    ),
    one(
        "the outgoing are not counted down",
        CONNECTION,
        "        MUX_COUNT(loop->stats->outgoing, -1);\n",
        "        (void)0;\n",
    ),
    # -- what the simulation itself has found
    one(
        "a reset that comes with an EOF is not heard",
        READY,
        "mux_todo_add(&self->todo, slot, BROKEN);",
        "(void)0;",
    ),
    one(
        "an interrupted wait counts as one that told all",
        EPOLL,
        "self->base.sink->clock(self->base.loop, ready >= 0);",
        "self->base.sink->clock(self->base.loop, true);",
    ),
    one(
        "a closing connection does not believe that input waits",
        READY,
        "slot->unread = true; /* should the last byte go now */",
        "(void)0;",
    ),
    one(
        "what came while reading was held is not known to be unread",
        CONNECTION,
        "slot->unread = true; /* nobody has looked meanwhile */",
        "(void)0;",
    ),
    one(
        "a second shutdown ends with an error",
        CONNECTION,
        "if (failed && failed != -ENOTCONN)",
        "if (failed)",
    ),
    one(
        "a listener that could not be watched is deaf for ever",
        EPOLL,
        "if (!self->edge || !slot->armed)",
        "if (!self->edge)",
    ),
]
