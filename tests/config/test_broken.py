"""A file that is broken in many ways: each error has its line, its key, and what to do."""

from __future__ import annotations

import re

import pytest

from muxcore.config import ConfigError, Served, contents, read

_GOOD = """\
[server]
engine = "pure-select"
[server.limits]
idle_timeout = "10m"
[listeners.web]
address = "127.0.0.1:8000"
pool = "web"
[pools.web]
policy = "least-connections"
upstreams = [
  "web1:80",
  {address = "web2:80", weight = 2},
]
check = {every = "2s"}
[log]
access = "json"
"""
_ROUTED = """\
[listeners.in]
address = 9000
route = "by-name"
limits = "some"
[pools.web]
upstreams = "a:1"
[routes.by-name]
first_bytes = "3s"
rules = [
  {tls_name = ["a.example", "*.b.example"], pool = "web"},
  {starts_with = 'SSH-', pool = "web"},
]
default = "refuse"
[limits.some]
deny = ["192.0.2.0/24"]
source_rate = 10
"""
_OTHER = """\
[listeners.b]
address = 8000
pool = "web"
"""


def errors_of(text: str) -> list[str]:
    try:
        Served(read("relay.toml", text.encode()))
    except ConfigError as exc:
        return exc.told
    return []


_CHAIN = """\
[listeners.outer]
address = ["127.0.0.1:8000", "unix:/run/outer"]
pool = "inner"
[listeners.inner]
address = "0.0.0.0:8001"
accept_proxy = "127.0.0.1"
route = "by-name"
[pools.inner]
send_proxy = "v2"
upstreams = ["127.0.0.1:8001", "localhost:8001"]
[pools.web]
upstreams = "web1:80"
[routes.by-name]
default = "web"
"""


def test_one_listener_may_be_the_upstream_of_another() -> None:
    assert errors_of(_CHAIN) == []


@pytest.mark.parametrize("back", ["127.0.0.1:8000", "unix:/run/outer", "localhost:8001"])
def test_listeners_are_no_ring(back: str) -> None:
    ring = r"upstream \S+ is a listener here: each client would be joined with the relay itself"
    told = errors_of(_CHAIN.replace("web1:80", back))
    assert told
    assert all(re.search(ring, each) for each in told)
    assert any(f"upstream {back} is" in each for each in told)


def test_a_ring_is_told_once() -> None:
    both = _CHAIN.replace('"127.0.0.1:8000", ', '"127.0.0.1:8000", "[::1]:8000", ')
    assert len(errors_of(both.replace("web1:80", "localhost:8000"))) == 3  # and the two on the way


def test_whom_a_program_chooses_may_go_to_any_pool() -> None:
    decides = _CHAIN.replace('default = "web"', 'decide = "builtins:print"')
    (told,) = errors_of(decides.replace("web1:80", "127.0.0.1:8000"))[-1:]
    assert "is a listener here" in told


def test_a_listener_is_not_more_patient_than_the_server() -> None:
    (told,) = errors_of(_GOOD.replace('pool = "web"', 'pool = "web"\nidle_timeout = "1h"'))
    assert re.match(r"relay.toml:8: listeners.web.idle_timeout: must be below the 600 s", told)


def test_the_file_that_is_broken_here_is_good() -> None:
    assert errors_of(_GOOD) == []


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        # what is no TOML
        ("policy =", "policy", r":9: this is no TOML: Expected '=' after a key.*\(column \d+\)"),
        ('"web1:80",', '"web1:80', r":11: this is no TOML: Illegal character '\\n' \(column \d+\)"),
        ("[log]", "[log", r":15: this is no TOML"),
        (
            "access =",
            'access = "text"\naccess =',
            r":17: this is no TOML: Cannot overwrite a value",
        ),
        ("[log]", "[pools.web]", r":15: this is no TOML: Cannot declare \('pools', 'web'\) twice"),
        ('access = "json"', "access = ", r":16: this is no TOML: Invalid value"),
        # names
        ("policy", "polcy", r":9: pools.web.polcy: there is no such key: did you mean policy\?"),
        ("[log]", "[logs]", r":15: logs: there is no such section: did you mean log\?"),
        ("[log]", "[zzz]", r":15: zzz: there is no such section: there are server, listeners, "),
        ("weight", "wieght", r":12: pools.web.upstreams\[1\].wieght: .* did you mean weight\?"),
        ("every", "evry", r":14: pools.web.check.evry: .* did you mean every\?"),
        ("idle_timeout", "idle_time", r":4: server.limits.idle_time: .* mean idle_timeout\?"),
        ("engine", "engin", r":2: server.engin: there is no such key: did you mean engine\?"),
        ('address = "127', 'adress = "127', r":6: listeners.web.adress: .* mean address\?"),
        ("[pools.web]", '[pools."a b"]', r":8: pools.'a b': a name has 1 to 64 letters"),
        # what refers to something
        (
            'pool = "web"',
            'pool = "wbe"',
            r":7: listeners.web.pool: there is no \[pools.wbe\]: did you mean web\?",
        ),
        ('pool = "web"', 'pool = "x"', r":7: .*: write a table \[pools.x\]"),
        ('pool = "web"', "pool = 3", r":7: listeners.web.pool: must be a text, not 3"),
        ('pool = "web"', "", r":5: listeners.web: pool or route is missing"),
        # shapes
        (
            "[listeners.web]",
            "[listeners]",
            r":5: listeners: write tables with names, as in \[listeners.main\]",
        ),
        (
            '[server]\nengine = "pure-select"\n[server.limits]',
            "server = 3\n[x]",
            r":1: server: must be a table, not 3",
        ),
        (
            '{address = "web2:80", weight = 2}',
            "{weight = 2}",
            r":12: pools.web.upstreams\[1\]: address is missing",
        ),
        (
            '{address = "web2:80", weight = 2}',
            "17.5",
            r":12: pools.web.upstreams\[1\]: an address is a port",
        ),
        ('address = "127.0.0.1:8000"', "", r":5: listeners.web: address is missing"),
        (
            'address = "127.0.0.1:8000"',
            "address = []",
            r":6: listeners.web.address: is empty: at least one",
        ),
        # values of a wrong kind
        ('"10m"', '"10 parsecs"', r":4: server.limits.idle_timeout: must be a time such as 30s"),
        ('"10m"', "true", r":4: .*: must be a time such as '30s' or '500ms', not True"),
        ('"10m"', "-3", r":4: server.limits.idle_timeout: must be above 0, not -3"),
        ('"10m"', "0", r":4: server.limits.idle_timeout: must be above 0, not 0"),
        (
            'idle_timeout = "10m"',
            'backlog = "2.5"',
            r":4: server.limits.backlog: must be a whole number",
        ),
        (
            'idle_timeout = "10m"',
            "backlog = 2.5",
            r":4: server.limits.backlog: must be a whole number",
        ),
        (
            'idle_timeout = "10m"',
            'write_high = "3 kB"',
            r":4: .*write_high: must be a number of bytes",
        ),
        (
            'idle_timeout = "10m"',
            "write_low = 70000",
            r":4: server.limits.write_low: \(70000\) is above write_high",
        ),
        (
            'idle_timeout = "10m"',
            'drain_idle = "often"',
            r":4: server.limits.drain_idle: must be wait, close, or a time",
        ),
        (
            'engine = "pure-select"',
            "workers = 0",
            r":2: server.workers: must be 'auto' or a number from 1 to",
        ),
        (
            'engine = "pure-select"',
            'balance = "even"',
            r":2: server.balance: must be one of 'kernel', 'exact'",
        ),
        (
            'engine = "pure-select"',
            'trigger = "egde"',
            r":2: server.trigger: .*: did you mean edge\?",
        ),
        (
            'engine = "pure-select"',
            "reuse_port = 1",
            r":2: server.reuse_port: must be true or false, not 1",
        ),
        (
            "least-connections",
            "least-conections",
            r":9: pools.web.policy: .*: did you mean least-connections\?",
        ),
        (
            'access = "json"',
            'access = "xml"',
            r":16: log.access: must be one of 'text', 'json', not 'xml'",
        ),
        (
            "weight = 2",
            "weight = 0",
            r":12: pools.web.upstreams\[1\].weight: must be a whole number from 1 to 256, not 0",
        ),
        (
            "weight = 2",
            'send_proxy = "v3"',
            r":12: pools.web.upstreams\[1\].send_proxy: must be one of '', 'v1'",
        ),
        (
            "weight = 2",
            'backup = "yes"',
            r":12: pools.web.upstreams\[1\].backup: must be true or false",
        ),
        ('every = "2s"', "every = 0", r":14: pools.web.check.every: must be above 0, not 0"),
        (
            'every = "2s"',
            "agent = 70000",
            r":14: pools.web.check.agent: must be a whole number from 1 to 65,535",
        ),
        ('every = "2s"', r"send = '\xZZ'", r":14: pools.web.check.send: .* truncated \\xXX escape"),
        (
            'every = "2s"',
            'steps = ["", "220 "]',
            r":14: pools.web.check.steps\[0\]: must be a pair of texts, .*, not ''",
        ),
        (
            'every = "2s"',
            'steps = [["", "220 "], ["", ""]]',
            r":14: pools.web.check.steps: step 2 neither sends nor expects",
        ),
        (
            'every = "2s"',
            'steps = [["", "220 "]], send = "QUIT"',
            r":14: pools.web.check.steps: says it all: leave send and expect",
        ),
        (
            'check = {every = "2s"}',
            "queue = -1",
            r":14: pools.web.queue: must be a whole number from 0 to",
        ),
        (
            'check = {every = "2s"}',
            'max_ejected = "150%"',
            r":14: pools.web.max_ejected: must be a share above 0",
        ),
        (
            'check = {every = "2s"}',
            'max_ejected = "half"',
            r":14: pools.web.max_ejected: must be a share such as 50%, not 'half'",
        ),
        (
            'check = {every = "2s"}',
            "eject_after = 0",
            r":14: pools.web.eject_after: must be a whole number from 1",
        ),
        (
            'check = {every = "2s"}',
            "slow_start = -1",
            r":14: pools.web.slow_start: needs seconds of at least 0",
        ),
        (
            'access = "json"',
            'fields = ["clent"]',
            r":16: log.fields\[0\]: .* did you mean client\?",
        ),
        ('access = "json"', "start = 1", r":16: log.start: must be true or false, not 1"),
        ("[log]", '[admin]\nsocket = "a:1"\n[log]', r":16: admin.socket: must be the path of a u"),
        ("[log]", '[admin]\nmetrics = ":1"\n[log]', r":16: admin.metrics: .* does not say where"),
        ('check = {every = "2s"}', 'name = "x"', r":14: pools.web.name: there is no such key"),
        # addresses
        (
            '"127.0.0.1:8000"',
            '":8000"',
            r":6: listeners.web.address: .* does not say where to listen",
        ),
        ('"127.0.0.1:8000"', '[1, "http://a"]', r":6: listeners.web.address\[1\]: .* is a URL"),
        ('"web1:80"', '"web1"', r":11: pools.web.upstreams\[0\]: address 'web1' has no port"),
        (
            '"web1:80"',
            '"fd:web"',
            r":11: .*: address 'fd:web' is a socket that a supervisor has passed",
        ),
        (
            '"web1:80"',
            '"web1:0"',
            r":11: pools.web.upstreams\[0\]: upstream web1:0: nobody can be connected to at port 0",
        ),
        ('"web1:80"', '"web2:80"', r":8: pools.web: upstream web2:80 is given twice"),
        (
            '"web1:80"',
            '"127.0.0.1:8000"',
            r":11: pools.web.upstreams\[0\]: upstream 127.0.0.1:8000 is a listener here",
        ),
        (
            '"127.0.0.1:8000"',
            "[8000, 8000]",
            r":6: listeners.web.address: 127.0.0.1:8000 is given twice",
        ),
        (
            "[pools.web]",
            f"{_OTHER}[pools.web]",
            r":9: listeners.b.address: 127.0.0.1:8000 is given twice",
        ),
        (
            'pool = "web"',
            'pool = "web"\nsocket_mode = "0660"',
            r":8: listeners.web.socket_mode: is for unix:PATH",
        ),
        (
            'pool = "web"',
            'pool = "web"\nsocket_mode = 660',
            r":8: listeners.web.socket_mode: must be a text .* did you mean '0660'\?",
        ),
        (
            'pool = "web"',
            'pool = "web"\nsocket_mode = "0888"',
            r":8: listeners.web.socket_mode: must be three digits",
        ),
        (
            'pool = "web"',
            'pool = "web"\naccept_proxy = "all"',
            r":8: listeners.web.accept_proxy: must be networks such as",
        ),
        (
            'pool = "web"',
            'pool = "web"\naccept_proxy = []',
            r":8: listeners.web.accept_proxy: nobody could send a header",
        ),
        (
            'pool = "web"',
            'pool = "web"\nproxy_timeout = 3',
            r":8: listeners.web.proxy_timeout: .*give accept_proxy, too",
        ),
        # what those write who come from elsewhere
        (
            '"web1:80"',
            '"web1:80,weight=3"',
            r":11: pools.web.upstreams\[0\]: .* alone, .* \{address = \"web1:80\", w",
        ),
        (
            '"web1:80"',
            '"web1:80 check inter 2s"',
            r":11: pools.web.upstreams\[0\]: .* alone, not 'web1:80 check inter 2s'",
        ),
        (
            "[log]",
            "[admin]\nmetrics = 8000\n[log]",
            r":16: admin.metrics: 127.0.0.1:8000 is that of \[listeners.web\]",
        ),
    ],
)
def test_each_mistake_is_told_with_its_line_and_what_to_do(old: str, new: str, told: str) -> None:
    assert old in _GOOD
    found = errors_of(_GOOD.replace(old, new))
    assert any(re.match(f"relay.toml{told}", each) for each in found), found
    assert len(found) <= 2  # nothing is told of what follows from it, but for a name that is gone


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ('route = "by-name"', 'route = "by-nam"', r":3: listeners.in.route: .* mean by-name\?"),
        (
            'route = "by-name"',
            'route = "by-name"\npool = "web"',
            r":1: listeners.in: has pool and r",
        ),
        (
            'limits = "some"',
            'limits = "none"',
            r":4: listeners.in.limits: there is no \[limits.none",
        ),
        (
            'limits = "some"',
            'proxy_limits = "some"',
            r":4: listeners.in.proxy_limits: .* accept_pr",
        ),
        ("*.b.example", "*.*.example", r":10: routes.by-name.rules\[0\].tls_name: no TLS client"),
        ("'SSH-'", "''", r":11: routes.by-name.rules\[1\].starts_with: must be a text"),
        ("'SSH-'", "3", r":11: routes.by-name.rules\[1\].starts_with: must be a text, not 3"),
        ("starts_with = 'SSH-'", 'protocol = "shh"', r":11: .*rules\[1\].protocol: must be one of"),
        (', pool = "web"},\n]', "},\n]", r":11: routes.by-name.rules\[1\]: pool is missing"),
        ('"refuse"', '"refused"', r":13: routes.by-name.default: .*: did you mean refuse\?"),
        ('"refuse"', '"web"\ndecide = "m:f"', r":14: routes.by-name.decide: 'm:f': no module 'm'"),
        ("default =", "decide =", r":13: routes.by-name.decide: 'refuse': write MODULE:NAME"),
        ('default = "refuse"', 'decide = "os:sepp"', r":13: .*: .*os.py has no 'sepp'"),
        ('default = "refuse"', 'decide = "os:sep"', r":13: .*decide: 'os:sep' cannot be called"),
        (
            'default = "refuse"',
            'decide = "os:getcwd"',
            r":13: .*decide: 'os:getcwd' cannot be called with one argument, a muxcore.First: ",
        ),
        ('"3s"', "-1", r":8: routes.by-name.first_bytes: needs seconds of at least 0, not -1"),
        (
            'first_bytes = "3s"',
            "max_bytes = 3",
            r":8: routes.by-name.max_bytes: a route's starts_w",
        ),
        ("rules = [", "rulez = [", r":9: routes.by-name.rulez: .*: did you mean rules\?"),
        ("0/24", "1/24", r":15: limits.some.deny: must be networks .* has host bits set"),
        ("source_rate = 10", "source_rate = 0", r":16: limits.some.source_rate: must be connecti"),
        (
            "source_rate = 10",
            'bytes_up = "fast"',
            r":16: limits.some.bytes_up: must be a number of",
        ),
        ("source_rate = 10", 'refuse = "hang"', r":16: limits.some.refuse: must be one of 'close'"),
    ],
)
def test_mistakes_of_routes_and_limits_are_told_so(old: str, new: str, told: str) -> None:
    assert errors_of(_ROUTED) == []
    assert old in _ROUTED
    found = errors_of(_ROUTED.replace(old, new))
    assert any(re.match(f"relay.toml{told}", each) for each in found), found
    assert len(found) <= 2


def test_a_pool_is_not_called_as_what_stands_for_none() -> None:
    (told,) = errors_of(_ROUTED.replace('"web"', '"refuse"').replace("pools.web", "pools.refuse"))
    assert re.match(r"relay.toml:5: pools.refuse: a default of 'refuse' means no pool", told)


def test_a_file_without_an_end_is_not_read_to_it() -> None:
    with pytest.raises(ConfigError, match="larger than 1,048,576 bytes"):
        contents("/dev/zero")


def test_a_route_that_sends_nobody_anywhere_is_refused() -> None:
    text = re.sub(r"(?s)rules = .*?\n]\n", "", _ROUTED)
    assert errors_of(text) == [
        "relay.toml:7: routes.by-name: sends nobody anywhere: give rules, a default or decide"
    ]


def test_all_errors_are_told_at_once_and_in_order() -> None:
    text = _GOOD.replace("engine", "engin").replace("weight", "wait").replace("json", "xml")
    lines = [int(each.split(":")[1]) for each in errors_of(text)]
    assert lines == [2, 12, 16]


def test_what_one_table_cannot_be_is_told_at_once_whoever_refuses_it() -> None:
    text = _GOOD.replace("weight = 2", "weight = 0, rate = -1")
    pool = "check = {every = 0, rise = 0}\nqueue = -1\nqeue = 1\nslow_start = -1"
    text = text.replace('check = {every = "2s"}', f'{pool}\nmax_ejected = "half"')
    limits = "idle_timeout = -1\nconnections = 0\nbacklog = 'x'"
    text = text.replace('idle_timeout = "10m"', limits)
    found = [re.match(r"relay\.toml:\d+: ([^ ]*):", each)[1] for each in errors_of(text)]  # type: ignore[index]
    assert sorted(found) == [
        "pools.web.check.every",
        "pools.web.check.rise",
        "pools.web.max_ejected",
        "pools.web.qeue",
        "pools.web.queue",
        "pools.web.slow_start",
        "pools.web.upstreams[1].rate",
        "pools.web.upstreams[1].weight",
        "server.limits.backlog",
        "server.limits.connections",
        "server.limits.idle_timeout",
    ]


def test_a_route_is_not_blamed_for_a_pool_that_is_wrong() -> None:
    text = """
[listeners.web]
address = 80
route = "all"
[pools.out]
upstreams = ["db1:5432"]
trys = 2
[routes.all]
rules = [{tls_name = "example.com", pool = "out"}]
default = "out"
"""
    (told,) = errors_of(text)
    assert "did you mean tries?" in told


def test_so_many_are_told_and_the_others_are_counted() -> None:
    wrong = "".join(f"key{number} = 1\n" for number in range(30))
    told = errors_of(_GOOD.replace("[log]\n", f"[log]\n{wrong}"))
    assert len(told) == 21
    assert told[-1] == "relay.toml: 10 errors more"


def test_what_is_no_text_and_what_is_too_large_is_refused() -> None:
    with pytest.raises(ConfigError, match="f:2: this is no UTF-8"):
        read("f", b"[log]\n# \xff")
    with pytest.raises(ConfigError, match="f:1: begins with a byte order mark"):
        read("f", "\ufeff[log]".encode())
    with pytest.raises(ConfigError, match="larger than 1,048,576 bytes"):
        read("f", b"#" * (1 << 21))
    assert errors_of("") == ["relay.toml: listeners is missing"]


def test_what_nothing_uses_is_told_and_is_no_error() -> None:
    text = _GOOD.replace("[log]", '[pools.spare]\nupstreams = "a:1"\n[log]')
    assert Served(read("f", text.encode())).warnings == ["f:15: pools.spare: nothing uses it"]


def test_what_has_no_effect_is_told_and_is_no_error() -> None:
    def told(rest: str) -> list[str]:
        text = _GOOD.replace("[log]", f"{rest}\n[log]")
        return [
            each.partition("pools.web.")[2] for each in Served(read("f", text.encode())).warnings
        ]

    assert told('queue = 5\nmax_ejected = "20%"') == [
        "queue: has no effect without max_active or rate",
        "max_ejected: has no effect without eject_after",
    ]
    assert told("queue_timeout = 5") == ["queue_timeout: has no effect without queue"]
    assert told("queue = 5\nmax_active = 9") == told("queue = 5\nrate = 9") == []
    upstream = '{address = "web2:80", weight = 2, max_active = 3}'
    text = _GOOD.replace('{address = "web2:80", weight = 2}', upstream).replace(
        "[log]", "queue=1\n[log]"
    )
    assert Served(read("f", text.encode())).warnings == []


def test_a_pool_that_ready_needs_has_a_listener_and_should_have_a_check() -> None:
    def admin(rest: str, text: str = _GOOD) -> str:
        return text.replace("[log]", f"[admin]\n{rest}\n[log]")

    needs = 'ready_needs = "web"'
    good = Served(read("f", admin(f"metrics = 1\n{needs}").encode()))
    assert (good.document.section("admin")["ready_needs"], good.warnings) == (["web"], [])
    unchecked = admin(f"metrics = 1\n{needs}", _GOOD.replace('check = {every = "2s"}\n', ""))
    (told,) = Served(read("f", unchecked.encode())).warnings
    assert told.startswith("f:16: admin.ready_needs: pool web has no check: it is unready only ")
    where = "relay.toml:17: admin.ready_needs: "
    (told,) = errors_of(admin('metrics = 1\nready_needs = "wbe"'))
    assert told.startswith(where + "there is no [pools.wbe]: did you mean web")
    spare = admin('metrics = 1\nready_needs = "spare"\n[pools.spare]\nupstreams = "a:1"')
    assert errors_of(spare) == [where + "no listener leads to pool spare: it would never be ready"]
    what = "is about /readyz: give metrics or socket, where it is answered"
    assert errors_of(admin(f"agent = 1\n{needs}")) == [where + what]


@pytest.mark.parametrize("check", ["true", '"often"'])
def test_a_check_that_is_no_time_is_told_of_once(check: str) -> None:
    (told,) = errors_of(_GOOD.replace('check = {every = "2s"}', f"check = {check}"))
    assert re.match(r"relay.toml:14: pools.web.check: must be a time such as ", told)


def test_a_blank_within_an_address_is_no_option_behind_one() -> None:
    (told,) = errors_of(_GOOD.replace('"web1:80"', '"web1 :80"'))
    assert re.match(r"relay.toml:11: pools.web.upstreams\[0\]: address 'web1 :80': ", told)
