"""Relays of which a mover has the bytes: the same scenarios, in a thread and in a host."""

from __future__ import annotations

import pytest

from muxcore.native import core
from muxcore.native.native_engine import NativeEpollEngine
from muxcore.testing.contract.pooling import Pooling
from muxcore.testing.contract.relaying import Relaying
from muxcore.testing.hosted import is_here
from muxcore.testing.suite import EngineSuite
from muxcore.testing.survival.relays import Relays

pytestmark = pytest.mark.skipif(core.missing is not None, reason=f"no C core: {core.missing}")


class Moved(Pooling, Relaying, Relays, EngineSuite):
    """Every relay leaves for one of two movers, at once."""

    engine = "native-epoll"

    @pytest.fixture(autouse=True)
    def _movers(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(NativeEpollEngine, "movers", 2)
        monkeypatch.setattr(core, "STAY", 0)


class TestNativeMovers(Moved):
    pass


@pytest.mark.skipif(not is_here("uvloop"), reason="uvloop is not installed")
class TestNativeEdgeMoversInUvloop(Moved):
    trigger = "edge"
    host = "uvloop"
