"""Addresses: what can be written, and what the error says where it cannot."""

from __future__ import annotations

import re
import socket
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from muxcore.address import Address, from_sockaddr, literal, mode_of, of_socket, parse, resolve
from muxcore.errors import AddressError

_ADVICE = re.compile(r"\b(?:write|as in|such as)\b(.*)")
_SPELLING = re.compile(r"'(\S+?:\S+?)'")


@pytest.mark.parametrize(
    ("text", "host", "port", "path"),
    [
        (9000, "127.0.0.1", 9000, ""),
        ("9000", "127.0.0.1", 9000, ""),
        (" 9000\n", "127.0.0.1", 9000, ""),
        (0, "127.0.0.1", 0, ""),
        (65_535, "127.0.0.1", 65_535, ""),
        ("127.0.0.1:9000", "127.0.0.1", 9000, ""),
        ("0.0.0.0:9000", "0.0.0.0", 9000, ""),
        ("[::]:9000", "::", 9000, ""),
        ("[::1]:0", "::1", 0, ""),
        ("[fe80::1%eth0]:80", "fe80::1%eth0", 80, ""),
        ("localhost:9000", "localhost", 9000, ""),
        ("db-1.internal.:5432", "db-1.internal.", 5432, ""),
        ("unix:/run/app.sock", "", 0, "/run/app.sock"),
        ("unix:a:b", "", 0, "a:b"),
        ("unix:@abstract", "", 0, "@abstract"),
        (f"unix:{'x' * 107}", "", 0, "x" * 107),
    ],
)
def test_each_spelling_means_one_address(text: str | int, host: str, port: int, path: str) -> None:
    assert parse(text) == Address(host, port, path)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("", "127.0.0.1:9000"),
        ("localhost", "localhost:9000"),
        ("10.0.0.1", "10.0.0.1:9000"),
        ("10.0.0.256", "127.0.0.1:9000"),
        ("*", "127.0.0.1:9000"),
        ("two words", "127.0.0.1:9000"),
        (":9000", "127.0.0.1:9000"),
        (":9000", "0.0.0.0:9000"),
        (":9000", "[::]:9000"),
        (":", "127.0.0.1:9000"),
        ("*:9000", "0.0.0.0:9000"),
        ("localhost:", "localhost:9000"),
        ("localhost:http", "localhost:9000"),
        ("localhost:-1", "localhost:9000"),
        ("localhost:65536", "localhost:9000"),
        ("localhost:٣", "localhost:9000"),  # a digit, but not one of ASCII's
        ("localhost:" + "9" * 5_000, "localhost:9000"),  # more than int() takes
        (-1, "127.0.0.1:9000"),
        (65_536, "127.0.0.1:9000"),
        ("+80", "127.0.0.1:9000"),
        ("10.0.0:80", "127.0.0.1:9000"),
        ("10.0.0.256:80", "127.0.0.1:9000"),
        ("010.0.0.1:80", "127.0.0.1:9000"),  # octal for some, decimal for others
        ("-a:80", "localhost:80"),
        ("a..b:80", "localhost:80"),
        ("a b:80", "localhost:80"),
        ("bücher:80", "localhost:80"),
        ("x" * 64 + ":80", "localhost:80"),  # a label has 63 at the most: RFC 1035, 2.3.4
        ("http://localhost:80/", "localhost:9000"),
        ("tcp://10.0.0.1:80", "localhost:9000"),
        ("/run/app.sock", "unix:/run/app.sock"),
        ("./app.sock", "unix:./app.sock"),
        ("@app", "unix:@app"),
        ("unix:", "unix:/run/app.sock"),
        ("::1", "[::1]:9000"),
        ("::1:9000", "[::1]:9000"),
        ("2001:db8::1", "[2001:db8::1]:9000"),
        ("2001:db8::1:80", "[2001:db8::1]:80"),
        ("a:b:80", "[::1]:9000"),
        ("[::1]", "[::1]:9000"),
        ("[::1", "[::1]:9000"),
        ("[::1]9000", "[::1]:9000"),
        ("[2001:db8::1]:", "[2001:db8::1]:9000"),
        ("[::1]:http", "[::1]:9000"),
        ("[localhost]:80", "[::1]:9000"),
        ("[127.0.0.1]:80", "[::1]:9000"),
        ("[fe80::1%]:80", "[::1]:9000"),
        ("[]:80", "[::1]:9000"),
        (None, "127.0.0.1:9000"),
        (True, "127.0.0.1:9000"),
        (b"127.0.0.1:80", "127.0.0.1:9000"),
    ],
)
def test_each_malformed_address_is_answered_with_a_right_spelling(
    text: str | int, shown: str
) -> None:
    with pytest.raises(AddressError) as caught:
        parse(text)
    advice = _ADVICE.search(str(caught.value))
    assert advice, f"no advice: {caught.value}"
    spellings = _SPELLING.findall(advice[1])
    assert shown in spellings
    for spelling in spellings:
        parse(spelling)  # whatever is shown would be taken


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (f"unix:{'x' * 108}", "over the kernel's 107"),
        (f"unix:{'é' * 54}", "108 bytes"),
        ("unix:/a\0b", "cannot hold a NUL byte"),
        ("unix:\ud800", "cannot name a file"),
    ],
)
def test_a_path_that_no_socket_can_have_is_refused_with_the_reason(text: str, why: str) -> None:
    with pytest.raises(AddressError, match=re.escape(why)):
        parse(text)


@given(st.text(alphabet=st.one_of(st.sampled_from(":[]/.%*@0123456789af-"), st.characters())))
@example("9" * 5_000)
@example("unix:\ud800")
def test_any_text_is_an_address_or_a_malformed_one(text: str) -> None:
    try:
        address = parse(text)
    except AddressError:
        return
    assert parse(str(address)) == address


@given(
    st.builds(
        Address,
        st.one_of(
            st.ip_addresses(v=4).map(str), st.ip_addresses(v=6).map(str), st.just("localhost")
        ),
        st.integers(0, 65_535),
    )
)
def test_what_an_address_prints_is_read_as_the_same(address: Address) -> None:
    assert parse(str(address)) == address
    assert parse(address) is address


def test_a_name_is_resolved_and_no_address_of_it_comes_twice() -> None:
    found = resolve(parse("localhost:80"), passive=True)
    assert len(found) == len(set(found)) > 0
    assert all(sockaddr[1] == 80 for _, sockaddr in found)
    assert resolve(parse("[::1]:80"))[0][1][:2] == ("::1", 80)


@pytest.mark.parametrize("text", ["127.0.0.1:80", "[::1]:80", "unix:/run/s", "unix:@name"])
def test_what_names_a_socket_by_itself_needs_no_lookup(text: str) -> None:
    assert list(literal(parse(text))) == resolve(parse(text))


@pytest.mark.parametrize("host", ["localhost", "no-such-name.invalid", "fe80::1%lo"])
def test_a_name_is_no_literal_nor_is_an_address_in_a_zone(host: str) -> None:
    assert literal(Address(host, 80)) == ()


def test_a_name_without_an_address_is_the_resolvers_error() -> None:
    with pytest.raises(socket.gaierror):
        resolve(Address("no-such-name.invalid", 80))  # RFC 6761, 6.4: never exists


def test_a_bound_socket_tells_an_address_that_can_be_connected_to(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as tcp:
        assert of_socket(tcp) == f"127.0.0.1:{tcp.getsockname()[1]}"
    for where in (f"unix:{tmp_path}/s", f"unix:@{tmp_path.name}-{id(tmp_path)}"):
        family, sockaddr = resolve(parse(where))[0]
        assert family == socket.AF_UNIX
        with socket.socket(family) as listener, socket.socket(family) as client:
            listener.bind(sockaddr)
            listener.listen()
            assert of_socket(listener) == where
            client.connect(resolve(parse(of_socket(listener)))[0][1])


def test_a_peers_address_of_six_has_brackets() -> None:
    assert from_sockaddr(socket.AF_INET6, ("::1", 80, 0, 0)) == "[::1]:80"
    assert from_sockaddr(socket.AF_INET, ("10.0.0.1", 80)) == "10.0.0.1:80"
    assert from_sockaddr(socket.AF_UNIX, "") == "unix:"


@pytest.mark.parametrize(
    ("text", "name"),
    [("fd:web", "web"), ("fd:3", "3"), ("fd:0", "0"), ("fd:003", "3"), ("fd:a.socket", "a.socket")],
)
def test_what_a_supervisor_has_passed_is_an_address_to_listen_on(text: str, name: str) -> None:
    assert parse(text, listen=True) == Address(fd=name)
    assert str(Address(fd=name)) == f"fd:{name}"
    for where in (text, Address(fd=name)):
        with pytest.raises(AddressError, match="nowhere to connect to; write for example '127"):
            parse(where)
    with pytest.raises(OSError, match="has no address before it is opened"):
        resolve(Address(fd=name))
    assert literal(Address(fd=name)) == ()


@pytest.mark.parametrize("text", ["fd:", "fd:a:b", "fd:ä", f"fd:{'x' * 256}"])
def test_what_names_no_descriptor_is_refused(text: str) -> None:
    with pytest.raises(AddressError, match="names no descriptors: write fd: and what"):
        parse(text, listen=True)


@pytest.mark.parametrize(("text", "mode"), [("0660", 0o660), ("660", 0o660), ("0o600", 0o600)])
def test_a_mode_is_read_as_chmod_reads_it(text: str, mode: int) -> None:
    assert mode_of(text) == mode
    assert Address(path="/s", mode=mode).mode == mode


@pytest.mark.parametrize(
    ("path", "mode", "said"),
    [
        ("/s", 660, "did you mean 0o660?"),
        ("/s", 0o7777, "not from 0 to 0o777"),
        ("/s", -1, "not from 0 to 0o777"),
        ("/s", 0o440, "nobody could connect"),
        ("/s", "0660", "a mode is a number such as 0o660"),
        ("@s", 0o660, "this address has none"),
        ("", 0o660, "this address has none"),
    ],
)
def test_a_mode_that_cannot_be_is_refused(path: str, mode: Any, said: str) -> None:
    with pytest.raises(AddressError, match=re.escape(said)):
        Address(path=path, mode=mode)


def test_a_mode_makes_no_other_address() -> None:
    assert Address(path="/s", mode=0o660, owner=(1, 1)) == Address(path="/s")
