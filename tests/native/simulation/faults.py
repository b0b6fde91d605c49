"""The faults that judge the simulation: each is planted in the core, and has to be found.

What stands in the comments (B1, …) is the name of a bug that the core once had.
"""

from __future__ import annotations

from dataclasses import dataclass

from .build import Change

CONNECT = "connect.c"
CONNECTION = "connection.c"
DEADLINE = "deadline.c"
EPOLL = "backend_epoll.c"
LISTENER = "listener.c"
LOOP = "loop.c"
RELAY = "relay.c"
SENDQ = "sendq.c"
SLOTS = "slots.h"
TODO = "todo.c"
TRANSPORT = "transport.c"


@dataclass(frozen=True)
class Fault:
    """A planted fault.

    Attributes:
        name: what is wrong.
        changes: of the core's text.
    """

    name: str
    changes: tuple[Change, ...]


def _one(name: str, file: str, old: str, new: str) -> Fault:
    return Fault(name, ((file, old, new),))


FAULTS = [
    # -- names, slots and their lives
    _one(
        "a relay takes a side that is lost",
        RELAY,
        "slot->state == MUX_OPEN && !slot->verb",
        "!slot->verb",
    ),  # B1
    _one(
        "what is refused after its end is never freed",
        TRANSPORT,
        "slot->state == MUX_LOST && slot->told",
        "false",
    ),  # B3
    _one(
        "what is refused is told of all the same",
        TRANSPORT,
        "    slot->seen = false;\n    if (slot->state == MUX_LOST && slot->told)",
        "    if (slot->state == MUX_LOST && slot->told)",
    ),  # B2
    _one(
        "the table is smaller than the caps",
        LOOP,
        "2 * (uint64_t)options->connections + 64",
        "(uint64_t)options->connections / 2 + 4",
    ),  # B4
    _one(
        "a listener may have the relay's verb",
        LISTENER,
        "if (verb == MUX_VERB_RELAY)",
        "if (false)",
    ),  # B10
    _one(
        "an adopted connection may have the relay's verb",
        TRANSPORT,
        "    if (verb == MUX_VERB_RELAY) /* it takes two: mux_relay */\n        return",
        "    if (verb > 77)\n        return",
    ),
    _one(
        "a name of an earlier life is as good",
        SLOTS,
        "slot->generation == generation && slot->state",
        "generation && slot->state",
    ),
    _one(
        "a slot is given back twice",
        CONNECTION,
        "    loop->room = true;",
        "    mux_slots_give_back(&loop->slots, slot);\n    loop->room = true;",
    ),
    _one(
        "a slot is freed before Python has released it",
        LOOP,
        "if (!slot->seen && slot->state == MUX_LOST)",
        "if (slot->state == MUX_LOST)",
    ),
    _one(
        "a lost connection is lost again",
        CONNECTION,
        "    if (slot->state == MUX_LOST || slot->state == MUX_FREE)\n        return;\n",
        "",
    ),
    _one(
        "what ends stays in the list of things to do",
        EPOLL,
        "    (void)mux_todo_remove(&self->todo, slot);\n",
        "",
    ),
    _one(
        "the list of things to do loses its end",
        TODO,
        "        todo->last = slot->todo_prev;",
        "        todo->last = todo->first;",
    ),
    _one(
        "a forgotten connection has an event in the batch",
        RELAY,
        "if (event->slot == index && !birth)",
        "if (false && !birth)",
    ),
    _one(
        "another thread may call",
        "loop_internal.h",
        "return owner && owner != mux_sys_thread();",
        "return owner && owner == 77;",
    ),
    # -- epoll
    _one(
        "reading on is forgotten where reading was held",
        EPOLL,
        "mux_todo_add(&self->todo, slot, READ_ON); /* the edge",
        "(void)0; /* the edge",
    ),
    _one(
        "the budget of reads is spent and nobody comes back",
        EPOLL,
        "    if (self->edge)\n        mux_todo_add(&self->todo, slot, READ_ON);\n}",
        "}",
    ),
    _one(
        "the budget of sends is spent and nobody comes back",
        EPOLL,
        "mux_todo_add(&self->todo, slot, SEND_ON);",
        "(void)0;",
    ),
    _one(
        "a full batch forgets what was to be done",
        EPOLL,
        "            mux_todo_add(&self->todo, slot, what);",
        "            continue;",
    ),
    _one(
        "a registration is left behind at the end",
        CONNECTION,
        "    loop->backend->ops->detach(loop->backend, slot);\n    if (!lingered)",
        "    if (!lingered)",
    ),
    _one(
        "nobody waits for room to send",
        EPOLL,
        "slot->queue.size || slot->state == MUX_CONNECTING ? EPOLLOUT : 0",
        "slot->state == MUX_CONNECTING ? EPOLLOUT : 0",
    ),
    _one(
        "a short receive of an ended connection is taken for all",
        EPOLL,
        "if (received >= 0 && !full && !ended)",
        "if (received >= 0 && !full)",
    ),
    _one(
        "a reset is not heard by who is held",
        EPOLL,
        "return events ? events : EPOLLET;",
        "return events;",
    ),
    _one(
        "an interrupted receive ends the connection", EPOLL, "if (received == -EINTR)", "if (false)"
    ),
    _one(
        "an interrupted send is taken for a full buffer",
        EPOLL,
        "while (sent == -EINTR);",
        "while (false);",
    ),  # R13
    _one(
        "an interrupted wait ends the poll",
        EPOLL,
        "return ready == -EINTR ? 0 : ready;",
        "return ready;",
    ),
    _one(
        "a failed rebuild ends the loop",
        EPOLL,
        "        rebuild(self);\n",
        "        int probe = mux_sys_epoll_create();\n"
        "        if (probe < 0)\n            return probe;\n"
        "        (void)mux_sys_close(probe);\n        rebuild(self);\n",
    ),  # B8
    _one(
        "a rebuilt set lacks the waker",
        EPOLL,
        "    if (mux_sys_epoll_ctl(epoll, EPOLL_CTL_ADD, self->wake, EPOLLIN, WAKE_ID)) {",
        "    if (epoll < 0) {",
    ),
    _one(
        "what strays in the set is never got rid of",
        EPOLL,
        "self->stale > STALE_MAX",
        "self->stale > 1000000",
    ),
    Fault(
        "a child takes its parent's registrations away",
        (
            (EPOLL, "if (slot->armed && !mux_loop_forked(backend->loop))", "if (slot->armed)"),
            (
                LOOP,
                "        if (!forked && slot->state != MUX_LOST)",
                "        (void)forked;\n        if (slot->state != MUX_LOST)",
            ),
        ),
    ),
    _one("the waker wakes nobody", EPOLL, "    mux_on_woken(self->base.loop);\n", ""),
    # -- bytes
    _one("writes to two connections go to one", TRANSPORT, "slots[i] == index", "i < 77"),
    _one(
        "what the kernel did not take is sent twice",
        CONNECTION,
        "(const char *)data + sent, size - sent))",
        "(const char *)data, size))",
    ),
    _one("what the kernel did not take is dropped", CONNECTION, "if (sent == size)", "if (sent)"),
    _one(
        "a chunk that is sent in part is sent again",
        SENDQ,
        "            chunk->start += size;\n",
        "",
    ),
    _one(
        "the queue of a lost connection is kept",
        CONNECTION,
        "    mux_sendq_clear(&slot->queue, &loop->pool);\n",
        "",
    ),
    _one(
        "two pieces of one connection are in a batch",
        LOOP,
        "slot->delivered == loop->batch || ",
        "",
    ),
    _one("a hold holds nothing", CONNECTION, "    slot->hold |= reason;\n", ""),
    _one(
        "a hold comes too late to be armed",
        CONNECTION,
        "    if (!before)\n        loop->backend->ops->interest(loop->backend, slot);",
        "    (void)before, (void)loop;",
    ),
    _one(
        "a backlog does not hold who feeds it",
        CONNECTION,
        "        mux_relay_choked(loop, slot);\n",
        "        (void)0;\n",
    ),
    _one(
        "a backlog is over and nobody reads on",
        CONNECTION,
        "        mux_relay_relieved(loop, slot);\n",
        "        (void)0;\n",
    ),
    _one(
        "a queue that is empty is not told",
        CONNECTION,
        "(relieved || !slot->queue.size))",
        "false)",
    ),
    # -- ends
    _one("EOF is told twice", CONNECTION, "    mux_slot_hold(loop, slot, MUX_HOLD_EOF);\n", ""),
    _one(
        "EOF is sent before what is queued",
        TRANSPORT,
        "    if (slot->queue.size)\n        return 0;\n",
        "",
    ),
    _one(
        "EOF is forgotten when the queue empties",
        CONNECTION,
        "    if (slot->eof_wanted) {",
        "    if (false) {",
    ),
    _one(
        "EOF is not passed on by a relay", RELAY, "    if (!peer->queue.size) {", "    if (false) {"
    ),
    _one(
        "EOF of one direction ends both", RELAY, "if (both_have_ended(slot, peer)) {", "if (true) {"
    ),
    _one(
        "a relay outlives both its directions",
        RELAY,
        "    if (peer && both_have_ended(slot, peer))\n        mux_slot_end(loop, slot, 0);",
        "    (void)peer;",
    ),
    _one(
        "a relay's other side is left open",
        CONNECTION,
        "    if (peer)\n        mux_relay_orphaned(loop, peer, error);",
        "    (void)peer;",
    ),
    _one(
        "the list of the half-closed is torn",
        RELAY,
        "loop->half_last = slot->half_prev;",
        "loop->half_first = slot->half_prev;",
    ),
    _one(
        "a close drops what is queued",
        CONNECTION,
        "if (slot->state == MUX_CLOSING && !slot->queue.size)",
        "if (slot->state == MUX_CLOSING)",
    ),
    _one(
        "nobody lingers",
        CONNECTION,
        "if (slot->unread && !(slot->hold",
        "if (false && !(slot->hold",
    ),  # B11
    _one(
        "what lingers stays for ever",
        LOOP,
        "while ((slot = mux_wheel_expired(lingering,",
        "while (false && (slot = mux_wheel_expired(lingering,",
    ),
    _one(
        "a failed connect is told as made",
        CONNECT,
        "MUX_EV_CONNECTED, error)",
        "MUX_EV_CONNECTED, 0)",
    ),
    # -- deadlines
    _one(
        "deadlines are kept before what has come is read",
        LOOP,
        "        int done = loop->backend",
        "        loop->told_at = loop->now;\n"
        "        keep_deadlines(loop);\n        int done = loop->backend",
    ),  # B6
    _one(
        "who has moved is ended as idle",
        DEADLINE,
        "if (slot->moved_at + wheel->after <= now)",
        "if (slot->moved_at <= now)",
    ),
    _one(
        "the wheel forgets who has moved",
        DEADLINE,
        "        mux_wheel_add(wheel, slot);\n        wheel->next = before;",
        "        wheel->next = before;",
    ),
    _one(
        "the wheel's list loses who is before",
        DEADLINE,
        "wheel_next)->wheel_prev = slot->wheel_prev;",
        "wheel_next)->wheel_prev = MUX_NONE;",
    ),
    # -- listeners
    _one(
        "a failed accept is tried again at once",
        LISTENER,
        "    mux_slot_hold(loop, listener, MUX_HOLD_REST);\n}\n\nvoid mux_listeners",
        "}\n\nvoid mux_listeners",
    ),
    _one(
        "a listener rests for ever",
        LISTENER,
        "            mux_slot_unhold(loop, slot, MUX_HOLD_REST);",
        "            (void)0;",
    ),
    _one(
        "there is no cap on connections",
        LISTENER,
        "loop->stats->open >= loop->options.connections",
        "false",
    ),
    _one(
        "an accepted connection that cannot be served leaks",
        LISTENER,
        "        loop->backend->ops->release(loop->backend, &refused);\n",
        "        (void)refused;\n",
    ),
    _one(
        "the outgoing are not counted down",
        CONNECTION,
        "        MUX_COUNT(loop->stats->outgoing, -1);\n",
        "        (void)0;\n",
    ),
]
