"""Seen and steered: who is connected to a running server, and how it is changed.

::

    with muxcore.Server(relay, 5432) as server:
        with muxcore.admin.Admin(server, socket="unix:/run/relay.admin", metrics="[::1]:9100"):
            ...

It has threads of its own, so that it answers while the server drains, is full or hangs::

    whoever asks ──HTTP──► front ──a socketpair──► answering ──► the loop, half a ms at a time
                             └──────────────────► one in each worker, where there are any

From what is used to what it stands on:

- ``admin``: its life;
- ``front``: what is asked by HTTP; ``operations``: what all processes answer, as one answer;
  ``metrics``: the text for Prometheus; ``agent``: the line for HAProxy's agent-check;
- ``peers``: the processes, as the front sees them;
- ``answering``: who answers in each of them; ``finding``: its relays and pools; ``lag``: how late
  its loop is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from muxcore.admin.admin import Admin

__all__ = ["Admin"]


def __getattr__(name: str) -> Any:
    if name != "Admin":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from muxcore.admin.admin import Admin  # a worker needs ``answering`` alone, without asyncio

    return Admin
