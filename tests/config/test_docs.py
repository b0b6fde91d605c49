"""docs/config.md shows a file that is good, and names every key that there is."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from muxcore.config import Served, read
from muxcore.config.kinds import Each, Node, Table
from muxcore.config.schema import FILE

_PAGE = (Path(__file__).parents[2] / "docs/config.md").read_text(encoding="utf-8")


def _keys(node: Node) -> Iterator[str]:
    if isinstance(node, Each):
        yield from _keys(node.of)
    elif isinstance(node, Table):
        for key, its in node.keys.items():
            yield key
            if key != "limits" or not isinstance(its, Table):
                yield from _keys(its)


def test_the_example_is_good_and_its_check_is_what_the_page_shows() -> None:
    (example,) = re.findall(r"```toml\n(.*?)```", _PAGE, re.DOTALL)
    served = Served(read("relay.toml", example.encode()))
    served.demand("pure-epoll")
    assert served.warnings == []
    for line in served.told():
        assert f"  {line}\n" in _PAGE


def test_the_checks_of_those_who_come_from_a_proxy_are_good() -> None:
    page = (Path(__file__).parents[2] / "docs/from-a-proxy.md").read_text(encoding="utf-8")
    (pools,) = re.findall(r"```toml\n(.*?)```", page, re.DOTALL)
    names = re.findall(r"\[pools\.(\w+)\]", pools)
    listeners = "".join(
        f'[listeners.{name}]\naddress = "unix:/run/{name}"\npool = "{name}"\n' for name in names
    )
    served = Served(read("relay.toml", (pools + listeners).encode()))
    served.demand("pure-epoll")
    assert (list(served.pools), served.warnings) == (names, [])
    check = served.pools["cache"].check
    assert check is not None
    assert check.steps[0] == (b"AUTH secret\r\n", b"+OK")


def test_every_key_is_named() -> None:
    missing = {key for key in _keys(FILE) if not re.search(rf"\b{key}\b", _PAGE)}
    assert not missing
