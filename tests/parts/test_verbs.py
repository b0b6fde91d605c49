"""What is refused, is refused in one place for every engine."""

from __future__ import annotations

import pytest

from muxcore.adapters.asyncio_transport import AsyncioTransport
from muxcore.native.native_transport import NativeTransport
from muxcore.parts.verbs import Verbs
from muxcore.pure.blocking_transport import BlockingTransport
from muxcore.pure.epoll_engine import EdgeTransport
from muxcore.pure.stream_transport import StreamTransport

_KINDS = [AsyncioTransport, BlockingTransport, EdgeTransport, NativeTransport, StreamTransport]
_ONCE = ["abort", "discard", "echo", "relay", "writelines", "_check", "_refuse_write"]


@pytest.mark.parametrize("kind", _KINDS)
def test_no_engine_has_refusals_or_verbs_of_its_own(kind: type[Verbs]) -> None:
    other = "abort" if kind is BlockingTransport else ""  # it takes note, and leaves the rest
    assert [n for n in _ONCE if getattr(kind, n) is not getattr(Verbs, n) and n != other] == []
