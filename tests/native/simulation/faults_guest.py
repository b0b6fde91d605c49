"""Planted faults of a loop inside another one: what its descriptor does not show."""

from __future__ import annotations

from .fault import EPOLL, LISTENER, LOOP, one

_BUSY = "return self->todo.count || self->cursor < self->ready || self->retired >= 0;"

GUEST = [
    one(
        "a guest's due forgets those that have ended",
        LOOP,
        "if (loop->batch.ended_first != MUX_NONE || mux_listeners_may_resume(loop) ||",
        "if (mux_listeners_may_resume(loop) ||",
    ),
    one(
        "a guest's due forgets a listener that may resume",
        LOOP,
        "if (loop->batch.ended_first != MUX_NONE || mux_listeners_may_resume(loop) ||",
        "if (loop->batch.ended_first != MUX_NONE ||",
    ),
    one(
        "a guest's due forgets the deadlines",
        LOOP,
        "return next_deadline(loop, INT64_MAX);",
        "return INT64_MAX;",
    ),
    one(
        "a guest's due forgets the deadlines of relays",
        LOOP,
        "return next_deadline(loop, INT64_MAX);",
        "{\n        int64_t until = next_deadline(loop, INT64_MAX);\n"
        "        return until == mux_relay_due(loop) ? INT64_MAX : until;\n    }",
    ),
    one(
        "a guest's due forgets the rest of a listener",
        LOOP,
        "return next_deadline(loop, INT64_MAX);",
        "{\n        int64_t until = next_deadline(loop, INT64_MAX);\n"
        "        return loop->resting && until == loop->rest_until ? INT64_MAX : until;\n    }",
    ),
    one(
        "a guest's due forgets what the backend has to do",
        EPOLL,
        _BUSY,
        "return self->cursor < self->ready || self->retired >= 0;",
    ),
    one(
        "a guest's due forgets what a wait has left",
        EPOLL,
        _BUSY,
        "return self->todo.count || self->retired >= 0;",
    ),
    one(
        "a guest's due forgets that the descriptor is another",
        EPOLL,
        _BUSY,
        "return self->todo.count || self->cursor < self->ready;",
    ),
    one(
        "a rebuild closes the old set at once",
        EPOLL,
        "    self->retired = self->epoll;\n",
        "    (void)mux_sys_close(self->epoll);\n",
    ),
    one(
        "the set before the last is never closed",
        EPOLL,
        "    if (self->retired >= 0)\n        close_retired(self);\n    const bool any",
        "    const bool any",
    ),
    one(
        "a guest's due is now while a listener is at the cap",
        LISTENER,
        "loop->rest_until <= loop->now : loop->room);",
        "loop->rest_until <= loop->now : true);",
    ),
]
