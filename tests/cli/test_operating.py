"""docs/operating.md keeps its word: what its example prints, and that it names every option."""

from __future__ import annotations

import re
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import muxcore
from muxcore.testing import Peer
from tests.usual import usual

_PAGE = (Path(__file__).parents[2] / "docs" / "operating.md").read_text(encoding="utf-8")
# elsewhere protocols hear in processes of their own, which may be late
_ENGINES = [i.name for i in muxcore.engines() if i.available and "shared_state" in i.capabilities]


@pytest.mark.parametrize("engine", usual(_ENGINES))
def test_the_example_prints_what_the_page_shows(
    command: Callable[..., Any], tmp_path: Path, engine: str
) -> None:
    (program,) = re.findall(r"^```python\n(.*?)^```$", _PAGE, re.MULTILINE | re.DOTALL)
    (shown,) = re.findall(r"^```console\n(.*?)^```$", _PAGE, re.MULTILINE | re.DOTALL)
    (tmp_path / "careful.py").write_text(program)
    typed, _, begun, ended, _, status = shown.splitlines()
    words = typed.split()[2:]
    words[words.index("9000")] = "0"
    served = command(*words, "--engine", engine, cwd=tmp_path)
    peers = [Peer(served.address) for _ in range(12)]
    for number, peer in enumerate(peers):
        peer.send(b"begin" if number < 3 else b"nothing")
        assert peer.read(2) == b"ok"
    served.signal(signal.SIGTERM)
    for peer in peers:
        peer.read_eof()
        peer.close()
    assert served.status() == int(status)
    first, last = served.complaint().splitlines()
    assert first == begun
    assert re.sub(r"\d+\.\d", "2.0", last) == ended
