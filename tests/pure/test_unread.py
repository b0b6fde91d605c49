"""A close while the turn's events have yet to be handled: the loops know what they were told.

asyncio's and uvloop's transports do not, so this is no scenario of the suites.
"""

from __future__ import annotations

from typing import Any

from muxcore.testing.recorder import Recorder, data
from muxcore.testing.suite import EngineSuite, eventually


class _Unread(EngineSuite):
    def test_a_close_by_another_s_callback_is_no_reset_to_input_of_the_same_turn(self) -> None:
        self.needs("threadsafe_calls", "shared_state")

        class Ends(Recorder):
            other: Any = None

            def data_received(self, received: bytes) -> None:
                super().data_received(received)
                if self.other is not None:
                    self.other.transport.write(b"goodbye")
                    self.other.transport.close()

        with self.serving(Ends) as run:
            peers = [run.connect() for _ in range(2)]
            for peer in peers:  # what came before is known to be read
                peer.send(b"hello")
                run.wait_for(data(b"hello"), peer)
            first, second = (run.protocol(peer) for peer in peers)
            with run.held():  # so that one wait tells of both
                first.other, second.other = second, first
                for peer in peers:
                    peer.send(b"more")
            eventually(lambda: run.server.stats().open == 1, "one has ended the other")
            ended = peers[0] if first.transport.is_closing() else peers[1]
            assert ended.read_all() == b"goodbye"


class TestPureSelect(_Unread):
    engine = "pure-select"


class TestPureEpollLevel(_Unread):
    engine = "pure-epoll"


class TestPureEpollEdge(_Unread):
    engine = "pure-epoll"
    trigger = "edge"
