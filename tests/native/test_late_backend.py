"""What only completions make wrong: each fault here is found on the late backend alone."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

_UNITS = (
    "unit_accept",
    "unit_closing",
    "unit_gather",
    "unit_loop",
    "unit_relay",
    "unit_serving",
)

_FAULTS = {
    "a queue is given back while it is sent": (
        "connection.c",
        "    mux_conn_become(loop, slot, MUX_LOST);\n",
        "    mux_conn_become(loop, slot, MUX_LOST), mux_sendq_clear(&slot->queue, &loop->pool);\n",
    ),
    "a queue is given back at the loop's end, and then what is on its way is ended": (
        "loop.c",
        "        if (slot->state != MUX_LOST)\n            loop->backend->ops->detach",
        (
            "        mux_sendq_clear(&slot->queue, &loop->pool);\n"
            "        if (slot->state != MUX_LOST)\n            loop->backend->ops->detach"
        ),
    ),
    "what comes while reading is held is told": (
        "connection.c",
        "    if (slot->hold)\n        return false;\n",
        "",
    ),
    "more is told than there is room for": (
        "connection.c",
        "(size_t)size > room_in_batch(loop, slot))",
        "!bytes)",
    ),
    "who comes at the cap is let in": (
        "listener.c",
        "    if (!may_take(loop, listener))\n        return false;\n    listener->choked",
        "    listener->choked",
    ),
    "the backend does not hear that a hold is over": (
        "connection.c",
        "    if (before && !slot->hold)\n        loop->backend->ops->interest",
        "    if (before > 77)\n        loop->backend->ops->interest",
    ),
    "the backend does not hear that there is something to send": (
        "connection.c",
        "    if (first)\n        loop->backend->ops->interest(loop->backend, slot);",
        "    (void)first;",
    ),
}


def _is_found(program: Path) -> bool:
    try:
        result = subprocess.run([program], capture_output=True, timeout=10)
    except subprocess.TimeoutExpired:
        return True
    return result.returncode != 0


@pytest.mark.deep  # each compiles the core
@pytest.mark.parametrize("fault", _FAULTS)
def test_a_fault_is_found_when_everything_is_late(program: Callable[..., Path], fault: str) -> None:
    found = {
        backend: [
            unit for unit in _UNITS if _is_found(program(unit, backend, fault=_FAULTS[fault]))
        ]
        for backend in ("memory", "late")
    }
    assert found["late"]
    assert not found["memory"]
