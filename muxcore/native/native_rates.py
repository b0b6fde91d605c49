"""A rate in the C core: a number there, for as long as Python has the rate."""

from __future__ import annotations

import errno
import os
import weakref
from threading import get_ident

from muxcore.native.core_loop import CoreLoop
from muxcore.rate import Rate, is_over


class NativeBucket:
    """What a loop of the C core keeps of a rate.

    Args:
        engine: the loop.
        rate: what it stands for.

    Raises:
        OSError: there is no memory for it.
    """

    def __init__(self, engine: CoreLoop, rate: Rate) -> None:
        self.engine = weakref.ref(engine)
        made = engine.lib.mux_rate_new(engine.loop, rate.bytes_per_second, rate.burst)
        refuse_failed(made)
        self.number = int(made)

    def change(self, bytes_per_second: float, burst: int) -> None:
        engine = self.engine()
        if engine is not None:
            changed = engine.lib.mux_rate_change(engine.loop, self.number, bytes_per_second, burst)
            refuse_failed(changed)

    def __del__(self) -> None:
        engine = self.engine() if hasattr(self, "number") else None
        if engine is None or is_over(engine):
            return
        if get_ident() == engine.owner:
            engine.lib.mux_rate_drop(engine.loop, self.number)
        else:  # C would refuse it here
            engine.call_from_thread(_drop, self.engine, self.number)


def _drop(engine: weakref.ref[CoreLoop], number: int) -> None:
    if (alive := engine()) is not None:
        alive.lib.mux_rate_drop(alive.loop, number)


def refuse_failed(said: int) -> None:
    """Raise what C says has failed.

    Raises:
        RuntimeError: a mover has the connection.
        OSError: anything else that ``limit()`` can fail of: there is no memory.
    """
    if said == -errno.EBUSY:
        raise RuntimeError("limit(): a mover has the pair: set its rates before relay()")
    if said < 0 and said != -errno.ESTALE:
        raise OSError(-said, f"limit(): {os.strerror(-said)}")
