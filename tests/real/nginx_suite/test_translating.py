"""An nginx.conf becomes a file that ``muxcore relay`` takes, or a refusal that names why."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from muxcore.config import Served, read, written

from .conf import NoCounterpart, parsed, shown
from .log_lines import opened
from .log_lines import written as logged
from .translating import Translation, translated

_UPSTREAMS = """\
upstream web { least_conn; server a:1 weight=2; server b:1 backup; server a:1; server c:1 down; }
upstream mail { server m:1 max_conns=3; }
"""


def of(stream: str) -> Translation:
    found = translated(parsed(f"events {{}} stream {{ {_UPSTREAMS} {stream} }}"))
    if "listeners" in found.tables:
        Served(read("relay.toml", written(found.tables).encode()))
    return found


def tables(stream: str) -> dict[str, Any]:
    return of(stream).tables


def test_a_configuration_is_read_and_shown_again() -> None:
    text = "a \"b {;}\" 'c\\'d' ${e}f; # g {\nh { i; j k { } }"
    found = parsed(text)
    assert found[0].args == ("b {;}", "c'd", "${e}f")
    assert [each.words for each in parsed(shown(found))] == [each.words for each in found]


def test_an_upstream_that_is_there_twice_is_one_that_takes_what_both_may() -> None:
    (pool,) = tables("server { listen 127.0.0.1:9; proxy_pass web; }")["pools"].values()
    assert pool["policy"] == "least-connections"
    assert [(u["address"], u.get("weight")) for u in pool["upstreams"]] == [
        ("a:1", 3),
        ("b:1", None),
        ("c:1", None),
    ]


def test_servers_that_want_the_same_of_an_upstream_share_a_pool() -> None:
    found = tables(
        "server { listen 127.0.0.1:1; proxy_pass web; }"
        "server { listen 127.0.0.1:2; proxy_pass web; }"
        "server { listen 127.0.0.1:3; proxy_pass web; proxy_next_upstream off; }"
    )
    assert [each["tries"] for each in found["pools"].values()] == [3, 1]


@pytest.mark.parametrize(
    ("rules", "limits"),
    [
        ("allow 10.0.0.0/8; deny all;", {"allow": ["10.0.0.0/8"]}),
        ("deny 10.1.0.0/16; allow 10.0.0.0/8; deny all;", {"allow", "deny"}),
        ("deny unix:; allow all; deny 10.0.0.0/8;", {"deny": ["unix"]}),
        ("deny all;", {"deny": ["0.0.0.0/0", "::/0", "unix"]}),
    ],
)
def test_the_first_rule_that_matches_counts(rules: str, limits: Any) -> None:
    (found,) = tables(f"server {{ listen 127.0.0.1:1; proxy_pass web; {rules} }}")[
        "limits"
    ].values()
    assert found == limits or found.keys() == limits


def test_what_is_known_of_a_listener_is_put_in() -> None:
    found = tables(
        "map $server_port $x { 1 web; default mail; }"
        "server { listen 127.0.0.1:1; listen 127.0.0.1:2; proxy_pass $x; }"
    )
    pools = [found["pools"][each["pool"]] for each in found["listeners"].values()]
    assert [each["upstreams"][0]["address"] for each in pools] == ["a:1", "m:1"]


def test_a_map_of_tls_names_is_a_route() -> None:
    (route,) = tables(
        "map $ssl_preread_server_name $x { a.example web; *.b.example mail; default web; }"
        "server { listen 127.0.0.1:1; proxy_pass $x; ssl_preread on; preread_timeout 2s; }"
    )["routes"].values()
    assert [each["tls_name"] for each in route["rules"]] == [["a.example"], ["*.b.example"]]
    assert route["first_bytes"] == 2.0
    assert route["default"]


@pytest.mark.parametrize(
    "server",
    [
        "proxy_bind 127.0.0.2;",
        "allow 10.1.0.0/16; deny 10.0.0.0/8;",
        "proxy_ssl on;",
        "resolver 127.0.0.1;",
    ],
)
def test_a_directive_without_a_counterpart_is_named(server: str) -> None:
    with pytest.raises(NoCounterpart, match=re.escape(server.split()[-2])):
        tables(f"server {{ listen 127.0.0.1:1; proxy_pass web; {server} }}")


def test_who_answers_stays_nginx() -> None:
    found = of("server { listen 127.0.0.1:1; return 'hi'; }")
    assert not found.tables
    assert "return 'hi';" in found.rest


def test_lines_of_the_log_are_nginx(tmp_path: Path) -> None:
    found = of(
        "log_format f '$remote_addr $upstream_addr!$bytes_sent $status ' $upstream_bytes_sent;"
        f"server {{ listen 127.0.0.1:1; proxy_pass web; access_log {tmp_path}/log f; }}"
    )
    opened(found.files)
    assert (tmp_path / "log").read_text() == ""
    record = (
        '{"listener": "127.0.0.1:1", "client": "[::1]:9", "tries": [{"upstream": "a:1"}], '
        '"upstream": "b:1", "bytes_up": 3, "bytes_down": 4, "seconds": 0.5, "connect": 0.1, '
        '"ended": "closed", "id": "7-8", "time": "2026-01-31T10:00:00Z"}'
    )
    logged(found.logs, [record])
    assert (tmp_path / "log").read_text() == "::1 a:1, b:1!4 200 0, 3\n"
