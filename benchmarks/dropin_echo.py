"""asyncio's Protocol echo, as it is, in a loop whose servers are an engine's.

python benchmarks/dropin_echo.py 9000 [asyncio|uvloop]
"""

from __future__ import annotations

import asyncio

from _hosting import host

import muxcore.aio
from muxcore.compare.peers.asyncio_echo import serve

if __name__ == "__main__":
    factory = muxcore.aio.new_uvloop if host() == "uvloop" else muxcore.aio.new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(serve(f"dropin-{host()}"))
