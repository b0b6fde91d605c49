"""A listener of a file may be another's upstream."""

from __future__ import annotations

from pathlib import Path

import pytest

import muxcore
from muxcore.config import Reloading, Served, contents
from muxcore.testing import Peer, eventually
from muxcore.testing.upstream import Upstream
from tests.usual import usual

_ENGINES = usual(
    [i.name for i in muxcore.engines() if i.available and {"relay", "timers"} <= i.capabilities]
)
_FILE = """\
[listeners.outer]
address = "unix:{folder}/outer"
pool = "{first}"
[listeners.inner]
address = "unix:{folder}/inner"
accept_proxy = "unix"
pool = "web"
[pools.chained]
send_proxy = "v2"
upstreams = "unix:{folder}/inner"
[pools.web]
upstreams = "{upstream}"
"""


def greets(folder: Path, upstream: Upstream) -> None:
    """See a client through to the upstream and back."""
    with Peer(f"unix:{folder}/outer") as client:
        client.send(b"hello")
        there = upstream.accept()
        assert there.read(5) == b"hello"
        there.send(b"there")
        assert client.read(5) == b"there"
        there.close()
        client.read_end()


def pool_of(served: Served, listener: str) -> str:
    return str(served.document.section("listeners")[listener]["pool"])


@pytest.mark.parametrize("engine", _ENGINES)
def test_a_client_comes_through_both_also_after_a_reload(engine: str, tmp_path: Path) -> None:
    path = tmp_path / "relay.toml"
    with Upstream() as upstream:
        text = _FILE.replace("{upstream}", upstream.address).replace("{folder}", str(tmp_path))
        path.write_text(text.replace("{first}", "chained"))
        served = Served(contents(str(path)))
        server = muxcore.Server(served.where(), engine=engine)
        server.on_reload.append(Reloading(str(path), served))
        with server:
            greets(tmp_path, upstream)
            assert server.stats().total == 2
            for first in ("web", "chained"):
                path.write_text(text.replace("{first}", first))
                server.reload()
                eventually(lambda pool=first: pool_of(served, "outer") == pool, "nothing changes")
                greets(tmp_path, upstream)
            assert server.stats().total == 2 + 1 + 2
