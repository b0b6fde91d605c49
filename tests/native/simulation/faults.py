"""The faults that judge the simulation: each is planted in the core, and has to be found.

What stands in the comments (B1, …) is the name of a bug that the core once had.
"""

from __future__ import annotations

from .fault import (
    API,
    CONNECTION,
    EPOLL,
    GATHER,
    LISTENER,
    LOOP,
    PYTHON,
    READY,
    RELAY,
    SENDQ,
    SLOTS,
    TODO,
    Fault,
    one,
)
from .faults_ends import ENDS
from .faults_guest import GUEST
from .faults_rates import RATES

FAULTS = [
    # -- names, slots and their lives
    one(
        "a relay takes a side that is lost",
        RELAY,
        "slot->state == MUX_OPEN && !slot->verb",
        "!slot->verb",
    ),  # B1
    one(
        "what is refused after its end is never freed",
        API,
        "slot->state == MUX_LOST && slot->told",
        "false",
    ),  # B3
    one(
        "what is refused is told of all the same",
        API,
        "    slot->seen = false;\n    if (slot->state == MUX_LOST && slot->told)",
        "    if (slot->state == MUX_LOST && slot->told)",
    ),  # B2
    one(
        "the table is smaller than the caps",
        LOOP,
        "2 * (uint64_t)options->connections + 64",
        "(uint64_t)options->connections / 2 + 4",
    ),  # B4
    one(
        "a listener may have the relay's verb",
        LISTENER,
        "if (!mux_verb_is_for_one(loop, verb))",
        "if (false)",
    ),  # B10
    one(
        "an adopted connection may have the relay's verb",
        API,
        "    if (!mux_verb_is_for_one(loop, verb))\n        return -EINVAL;\n    mux_loop_look",
        "    mux_loop_look",
    ),
    one(
        "a name of an earlier life is as good",
        SLOTS,
        "slot->generation == generation && slot->state",
        "generation && slot->state",
    ),
    one(
        "a slot is given back twice",
        CONNECTION,
        "    loop->room = true;",
        "    mux_slots_give_back(&loop->slots, slot);\n    loop->room = true;",
    ),
    one(
        "a slot is freed before Python has released it",
        LOOP,
        "if (!slot->seen && slot->state == MUX_LOST)",
        "if (slot->state == MUX_LOST)",
    ),
    Fault(
        "a lost connection is lost again",
        (
            (CONNECTION, "    if (mux_slot_is_dead(slot))\n        return;\n", ""),
            (API, "    if (mux_slot_over(slot))\n        return 0; /* what", "    /* what"),
        ),
    ),
    one(
        "what ends stays in the list of things to do",
        EPOLL,
        "    (void)mux_todo_remove(&self->todo, slot);\n    mux_sendq_clear(",
        "    mux_sendq_clear(",
    ),
    one(
        "the list of things to do loses its end",
        TODO,
        "        todo->last = slot->todo_prev;",
        "        todo->last = todo->first;",
    ),
    one(
        "a forgotten connection has an event in the batch",
        RELAY,
        "if (event->slot == index && !birth)",
        "if (false && !birth)",
    ),
    one(
        "another thread may call",
        "loop_internal.h",
        "return owner && owner != mux_sys_thread();",
        "return owner && owner == 77;",
    ),
    # -- epoll
    one(
        "reading on is forgotten where reading was held",
        EPOLL,
        "mux_todo_add(&self->todo, slot, READ_ON); /* the edge",
        "(void)0; /* the edge",
    ),
    one(
        "the budget of reads is spent and nobody comes back",
        READY,
        "    if (self->edge && !slot->hold)\n        mux_todo_add(&self->todo, slot, READ_ON);\n}",
        "}",
    ),
    one(
        "the budget of sends is spent and nobody comes back",
        READY,
        "mux_todo_add(&self->todo, slot, SEND_ON);",
        "(void)0;",
    ),
    one(
        "a full batch forgets what was to be done",
        EPOLL,
        "            mux_todo_add(&self->todo, slot, what);",
        "            continue;",
    ),
    one(
        "a registration is left behind at the end",
        CONNECTION,
        "    loop->backend->ops->detach(loop->backend, slot);\n    if (!lingered)",
        "    if (!lingered)",
    ),
    one(
        "nobody waits for room to send",
        EPOLL,
        "slot->queue.size || slot->state == MUX_CONNECTING ? EPOLLOUT : 0",
        "slot->state == MUX_CONNECTING ? EPOLLOUT : 0",
    ),
    one(
        "a short receive of an ended connection is taken for all",
        READY,
        "if (received >= 0 && !full && !ended)",
        "if (received >= 0 && !full)",
    ),
    one(
        "a reset is not heard by who is held",
        EPOLL,
        "return events ? events : EPOLLET;",
        "return events;",
    ),
    one(
        "an interrupted receive ends the connection", READY, "if (received == -EINTR)", "if (false)"
    ),
    one(
        "an interrupted send is taken for a full buffer",
        "backend_epoll.h",
        "while (sent == -EINTR);",
        "while (false);",
    ),  # R13
    one(
        "an interrupted wait ends the poll",
        EPOLL,
        "return ready == -EINTR ? 0 : ready;",
        "return ready;",
    ),
    one(
        "a failed rebuild ends the loop",
        EPOLL,
        "        rebuild(self);\n",
        "        int probe = mux_sys_epoll_create();\n"
        "        if (probe < 0)\n            return probe;\n"
        "        (void)mux_sys_close(probe);\n        rebuild(self);\n",
    ),  # B8
    one(
        "a rebuilt set lacks the waker",
        EPOLL,
        "    if (mux_sys_epoll_ctl(epoll, EPOLL_CTL_ADD, self->wake, EPOLLIN, WAKE_ID)) {",
        "    if (epoll < 0) {",
    ),
    one(
        "what strays in the set is never got rid of",
        EPOLL,
        "self->stale > STALE_MAX",
        "self->stale > 1000000",
    ),
    Fault(
        "a child takes its parent's registrations away",
        ((EPOLL, "if (slot->armed && self->forks == mux_sys_forks())", "if (slot->armed)"),),
    ),
    one("the waker wakes nobody", EPOLL, "    self->base.sink->woken(self->base.loop);\n", ""),
    # -- bytes
    one(
        "of three gathered writes the second is left out",
        GATHER,
        "            first->last = i;\n",
        "",
    ),
    one(
        "what the kernel did not take is sent twice",
        CONNECTION,
        "(const char *)data + sent, size - sent))",
        "(const char *)data, size))",
    ),
    one("what the kernel did not take is dropped", CONNECTION, "if (sent == size)", "if (sent)"),
    one(
        "a chunk that is sent in part is sent again",
        SENDQ,
        "            chunk->start += size;\n",
        "",
    ),
    one(
        "the queue of a lost connection is kept",
        EPOLL,
        "    mux_sendq_clear(&slot->queue, backend->pool); /* send(2) has copied what it took */\n",
        "",
    ),
    one(
        "two pieces of one connection are in a batch",
        PYTHON,
        "    slot->delivered = loop->batch.serial;\n",
        "",
    ),
    one("a hold holds nothing", CONNECTION, "    slot->hold |= reason;\n", ""),
    one(
        "a hold comes too late to be armed",
        CONNECTION,
        "    if (!before)\n        loop->backend->ops->interest(loop->backend, slot);",
        "    (void)before, (void)loop;",
    ),
    one(
        "a backlog does not hold who feeds it",
        RELAY,
        "        mux_conn_hold(loop, peer, MUX_HOLD_BACKLOG);\n",
        "        (void)0;\n",
    ),
    one(
        "a backlog is over and nobody reads on",
        RELAY,
        "        mux_conn_unhold(loop, peer, MUX_HOLD_BACKLOG);\n",
        "        (void)0;\n",
    ),
    one(
        "a queue that is empty is not told",
        PYTHON,
        "(relieved || !slot->queue.size))",
        "false && relieved)",
    ),
    *ENDS,
    *GUEST,
    *RATES,
]
