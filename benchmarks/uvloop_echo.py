"""asyncio's Protocol echo on uvloop's loop: the same class, another loop.

python benchmarks/uvloop_echo.py 9000
"""

from __future__ import annotations

import uvloop
from asyncio_echo import serve

if __name__ == "__main__":
    uvloop.run(serve("uvloop"))
