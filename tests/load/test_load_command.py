"""``muxcore load``: what it prints, and what it returns to scripts."""

from __future__ import annotations

import copy
import json
import re
from pathlib import Path
from typing import Any

import pytest

import muxcore
from muxcore import cli
from muxcore.address import Address, parse
from muxcore.cli import _load_report, load, main
from muxcore.load import LoadConfig, LoadResult
from muxcore.testing.peer import DEADLINE
from muxcore.testing.upstream import refusing


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A busy machine may answer late what a server is asked first."""
    monkeypatch.setattr("muxcore.load.asking.FIRST", DEADLINE)


def test_a_right_server_gives_zero_and_a_summary(
    serve: Any, answers: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    address = str(serve(answers["echo"]()).address)
    assert main(["load", address, "--duration", "0.1", "--warmup", "0", "-c", "3"]) == 0
    out = capsys.readouterr().out
    assert "closed loop, 3 connections" in out
    assert "every byte compared" in out
    assert f"{address}: echo, " in out
    assert f"muxcore {muxcore.__version__}" in out


def test_json_holds_rate_latency_and_the_configuration(
    serve: Any, answers: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    address = str(serve(answers["echo"]()).address)
    options = ["--duration", "0.1", "--warmup", "0", "--rate", "300", "--poisson", "--json"]
    assert main(["load", address, *options]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["rate"] > 0
    assert found["target"] == address
    assert found["environment"]["kernel"]
    assert found["environment"]["muxcore"] == muxcore.__version__
    assert LoadResult.from_json(found).latency.total == found["answered"]
    assert set(found["latency_us"]) == {"p50", "p90", "p99", "p99.9", "p99.99", "max"}
    assert found["config"]["mode"] == "poisson"
    assert found["errors"]["corrupt"] == 0


def test_a_wrong_byte_gives_one(
    serve: Any, answers: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    address = str(serve(answers["flip_at"](3)).address)
    assert main(["load", address, "--duration", "0.1", "--warmup", "0", "-c", "1"]) == 1
    assert "corrupt" in capsys.readouterr().out


def test_lost_replies_give_one(serve: Any, capsys: pytest.CaptureFixture[str]) -> None:
    address = str(serve(lambda sock, data, number: None).address)
    options = ["--duration", "0.1", "--warmup", "0", "-c", "2", "--timeout", "0.1"]
    assert main(["load", address, *options]) == 1
    assert "2 LOST" in capsys.readouterr().out


@pytest.mark.parametrize("request_options", [[], ["--request", "hello"]])
def test_no_server_gives_one_and_says_what_would_be_one(
    request_options: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with refusing() as address:
        port = address.rpartition(":")[2]
        assert main(["load", address, "--duration", "0.1", *request_options]) == 1
    out, complaint = capsys.readouterr()
    assert (
        f"nothing listens on {address}: start a server there, e.g. `muxcore echo {port}` "
        "(Connection refused)\n"
    ) in out + complaint


def test_a_unix_socket_that_is_not_there_is_told_as_that(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    where = f"unix:{tmp_path}/none"
    assert main(["load", where, "-d", "100ms"]) == 1
    assert f"nothing listens on {where}: start a server there, e.g. `muxcore echo {where}`" in (
        capsys.readouterr().out
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--size", "abc"], "write bytes as in"),
        (["--depth", "0"], "--depth must be a whole number from 1 to 335544, not 0\n  --depth D"),
        (["--connections", "0"], "--connections must be a whole number from 1 to 1000000, not 0"),
        (["-c", "0"], "not 0\n  -c"),
        (["--duration", "0"], "--duration must be above 0 and at most 1e+09 s, not 0"),
        (["--warmup", "40y"], "--warmup must be a time such as"),
        (["--warmup", "1e9h"], "--warmup must be at least 0 and at most 1e+09 s, not 3.6e+12"),
        (["--timeout", "1e300"], "--timeout must be above 0 and at most 1e+09"),
        (["--rate", "-1"], "--rate must be at least 0"),
        (["--poisson"], "random intervals need a --rate"),
        (["--processes", "51"], "--processes must be from 1 to 50 for 50 "),
        (["-n", "3", "--processes", "4"], "--processes must be from 1 to 3 for 50 "),
        (["--request", "a\\x"], "--request 'a\\\\x': truncated"),
        (["--request", "@/no/such"], "--request '@/no/such': No such file or directory; @ names a"),
        (["--request", ""], "--request has 0 bytes: 1 to 65,536 can be taken\n  --request TEXT|@F"),
        (["--request", "x", "--until", "y" * 300], "--until has 300 bytes: 1 to 256"),
        (["--expect", "x"], "--expect is what --request is answered: say what to send, too"),
        (["--until", "x"], "--until is what --request is answered: say what to send, too"),
        (["--request", "x", "--expect", "y", "--until", "z"], "--until: not allowed with argument"),
        (["--http", "--request", "x"], "--http makes the request: leave --request out"),
        (["--http", "index.html"], "--http must be a path such as /index.html, not 'index.html'"),
        (["--http", "--size", "16k"], "--size is of messages that are invented"),
    ],
)
def test_a_wrong_option_gives_two_and_the_reason(
    options: list[str],
    message: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    with pytest.raises(SystemExit) as ended:
        main(["load", "9", *options])
    assert ended.value.code == 2
    assert message in capsys.readouterr().err


def test_an_address_that_is_none_gives_two(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["load", "localhost"])
    assert ended.value.code == 2
    assert "has no port" in capsys.readouterr().err


# -- a server that does not echo


def test_http_is_asked_for_by_one_flag(
    serve: Any, answers: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    server = serve(answers["http"](b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"))
    assert main(["load", str(server.address), "--http", "/a", "-n", "1k", "-c", "5"]) == 0
    out = capsys.readouterr().out
    assert f"{server.address}: HTTP, closed loop, 5 connections, depth 1," in out
    assert f"said      b'GET /a HTTP/1.1\\r\\nHost: {server.address}\\r\\n" in out
    assert "1,000 of 1,000 answered, each a whole HTTP reply" in out


def test_an_address_may_be_a_url(serve: Any, answers: Any, capsys: Any) -> None:
    server = serve(answers["http"](b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"))
    for path in ("", "/", "/a/b?c=d"):
        assert main(["load", f"http://{server.address}{path}", "-n", "10"]) == 0
        said = f"said      b'GET {path or '/'} HTTP/1.1\\r\\nHost: {server.address}\\r\\n"
        assert said in capsys.readouterr().out


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("http://127.0.0.1", "127.0.0.1:80"),
        ("http://127.0.0.1:81/x", "127.0.0.1:81"),
        ("http://[::1]/", "[::1]:80"),
        ("http://[::1]:8080/", "[::1]:8080"),
    ],
)
def test_a_url_without_a_port_means_that_of_http(url: str, address: str) -> None:
    options = cli._parser().parse_args(["load", url])
    load._take_url(options)
    assert options.address == address


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["https://127.0.0.1/"], "https:// cannot be driven: there is no TLS"),
        (["http://127.0.0.1/", "--http", "/x"], "says what to GET: give HOST:PORT, and --http"),
        (["http://127.0.0.1/", "--request", "x"], "says what to GET: give HOST:PORT, and --http"),
        (["http://127.0.0.1/a b"], "--http must be a path such as /index.html, not '/a b'"),
    ],
)
def test_a_url_that_cannot_be_is_refused(arguments: list[str], why: str, capsys: Any) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["load", *arguments])
    assert ended.value.code == 2
    assert why in capsys.readouterr().err


def test_a_request_of_http_is_answered_as_http_says(serve: Any, answers: Any) -> None:
    server = serve(answers["http"](b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"))
    request = "POST /x HTTP/1.1\\r\\nHost: x\\r\\nContent-Length: 0\\r\\n\\r\\n"
    assert main(["load", str(server.address), "--request", request, "-n", "100"]) == 0


def test_request_and_reply_are_taken_from_files(serve: Any, tmp_path: Path) -> None:
    (tmp_path / "ask").write_bytes(b"\x00\xff\\r")
    (tmp_path / "answer").write_bytes(b"\xfe")
    server = serve(
        lambda sock, data, number: sock.sendall(b"\xfe" if data == b"\0\xff\\r" else b"?")
    )
    files = ["--request", f"@{tmp_path}/ask", "--expect", f"@{tmp_path}/answer"]
    assert main(["load", str(server.address), "-n", "10", *files]) == 0


def test_a_reply_that_is_not_said_is_learned_and_demanded(
    serve: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    def pong(sock: Any, data: bytes, number: int) -> None:
        sock.sendall(b"+PONG\r\n" if number < 50 else b"+PANG\r\n")

    options = ["--request", "PING\\r\\n", "-n", "100", "-c", "1"]
    assert main(["load", str(serve(pong).address), *options]) == 1
    out = capsys.readouterr().out
    assert r"said      b'PING\r\n', and b'+PONG\r\n' expected" in out
    assert r"expected byte 79, got byte 65 in b'+PANG\r\n'" in out


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ([], "no reply to b'x' within 0.2 s"),
        (["--greeting", "\\r\\n"], "did not greet with b'\\r\\n' within 0.2 s; it said b'"),
    ],
    ids=["no reply", "no greeting"],
)
def test_a_server_that_stays_silent_is_told(
    options: list[str], why: str, serve: Any, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("muxcore.load.asking.FIRST", 0.2)
    server = serve(lambda sock, data, number: None, b"220 " if options else b"")
    assert main(["load", str(server.address), "--request", "x", *options]) == 1
    assert why in capsys.readouterr().err


def test_replies_that_differ_are_not_demanded(serve: Any, capsys: Any) -> None:
    server = serve(lambda sock, data, number: sock.sendall(b"%d" % number))
    assert main(["load", str(server.address), "--request", "x"]) == 1
    assert "say with --until what each of them ends with" in capsys.readouterr().err


def test_a_server_that_speaks_first_is_heard_before_it_is_asked(serve: Any) -> None:
    server = serve(lambda sock, data, number: sock.sendall(b"250 OK\r\n"), b"220 ready\r\n")
    options = ["--greeting", "\\r\\n", "--request", "NOOP\\r\\n", "-n", "20", "-c", "2"]
    assert main(["load", str(server.address), *options]) == 0  # what it answers is learned
    assert main(["load", str(server.address), *options, "--until", "\\r\\n"]) == 0


def test_a_server_that_says_nothing_to_random_bytes_is_told_with_what_to_do(
    serve: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    server = serve(lambda sock, data, number: None)
    assert main(["load", str(server.address), "-c", "1", "-d", "50ms", "--timeout", "100ms"]) == 1
    assert "say what to send with --request, or --http" in capsys.readouterr().out


# -- what is shown


def test_the_latency_has_a_unit_that_fits_and_columns_that_stand_below_one_another(
    serve: Any, answers: Any
) -> None:
    result = LoadResult("pure", seconds=1.0, sent=3, received=3, answered=3, opened=1)
    for microseconds in (812_345, 1_500_000, 4_169_700):
        result.latency.add(microseconds * 1000)
    for microseconds in (0.2, 3, 45):
        result.lag.add(round(microseconds * 1000))
    config = LoadConfig(address=Address("127.0.0.1", 9), rate=3.0)
    lines = _load_report.text("9", config, result).splitlines()
    head, latency, lag = lines[-3:]
    assert head.split() == ["p50", "p90", "p99", "p99.9", "p99.99", "max"]
    assert latency.split() == ["latency", "1.50", "4.17", "4.17", "4.17", "4.17", "4.17", "s"]
    assert lag.split()[:8] == ["lag", "3.00", "45.0", "45.0", "45.0", "45.0", "45.0", "us"]
    ends = [[match.end() for match in re.finditer(r"\S+", line)] for line in (head, latency, lag)]
    assert ends[0] == ends[1][1:7] == ends[2][1:7]


def test_a_long_request_is_shown_by_its_beginning() -> None:
    config = LoadConfig(address=Address("127.0.0.1", 9), request=b"x" * 5000, until=b"\n")
    said = _load_report.text("9", config, LoadResult("pure")).splitlines()[2]
    assert said == f"  said      b'{'x' * 100}'…"


@pytest.mark.parametrize(
    ("asked", "started"),
    [
        ("127.0.0.1:9", "`muxcore echo 9`"),
        ("[::1]:9", "`muxcore echo [::1]:9`"),
        ("127.0.0.2:9", "`muxcore echo 127.0.0.2:9`"),
    ],
)
def test_the_server_that_would_do_listens_where_it_was_asked_for(asked: str, started: str) -> None:
    told = _load_report.unreached(asked, parse(asked), "Connection refused")
    assert told.startswith(f"nothing listens on {asked}: start a server there, e.g. {started}")


def test_another_reason_is_told_as_it_is() -> None:
    told = _load_report.unreached("10.9.9.9:9", parse("10.9.9.9:9"), "No route to host")
    assert told == "10.9.9.9:9: No route to host"


def test_a_name_is_shown_with_the_address_that_it_stands_for() -> None:
    config = LoadConfig(address=Address("127.0.0.1", 9))
    for asked, shown in (("9", "127.0.0.1:9: "), ("localhost:9", "localhost:9 (127.0.0.1:9): ")):
        assert _load_report.text(asked, config, LoadResult("pure")).startswith(shown)


def test_the_live_line_shows_the_last_second_s_rate_and_latency_and_what_is_left(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    found = LoadResult("pure")
    live = _load_report.Live(seconds=10.0, messages=0)

    def second(number: int, messages: int, microseconds: int) -> str:
        for _ in range(messages):
            found.latency.add(microseconds * 1000)
        found.received += messages
        found.seconds = float(number)
        live(copy.deepcopy(found))
        return capsys.readouterr().err.replace("\r\x1b[K", "")

    assert second(1, 100, 50) == "1.0 s, 9 s left  100/s  p50 50.0 us  p99 50.0 us"
    assert second(2, 300, 2000) == "2.0 s, 8 s left  300/s  p50 2.00 ms  p99 2.00 ms"
    found.errors["reset"] = 2
    assert second(3, 0, 0) == "3.0 s, 7 s left  0/s  2 errors"


def test_the_live_line_of_a_number_of_messages_counts_them(
    capsys: pytest.CaptureFixture[str],
) -> None:
    _load_report.Live(seconds=1e9, messages=5000)(LoadResult("pure", seconds=0.5, received=700))
    assert "0.5 s, 700 of 5,000" in capsys.readouterr().err
