"""What a client's first bytes say, as far as they have come.

Every question has three answers: yes, no, or None: that depends on bytes that are yet to come. A
yes and a no are for good, whatever comes; so it does not matter how the bytes are split.
"""

from __future__ import annotations

from collections.abc import Collection

from muxcore.errors import ParseError
from muxcore.parsers.guess import protocol_of
from muxcore.parsers.http import http_head
from muxcore.parsers.postgres import postgres_startup
from muxcore.parsers.tls import RECORD, ClientHello, tls_client_hello

_MESSAGES = {"tls": tls_client_hello, "http": http_head, "postgres": postgres_startup}


class Heard:
    """The first bytes of a client.

    Attributes:
        data: they.
        is_all: no more are waited for, so that nothing depends on them.
        protocol: see ``First``.
        hello: see ``First``.
        is_whole: the first message has come, or there is none to wait for.
    """

    __slots__ = ("data", "hello", "is_all", "is_whole", "protocol")

    def __init__(self) -> None:
        self.data = b""
        self.is_all = False
        self.protocol: str | None = None
        self.hello: ClientHello | None = None
        self.is_whole = False

    def add(self, data: bytes) -> None:
        """Hear more."""
        self.data += data
        if self.protocol is None:
            self.protocol = protocol_of(self.data)
        if self.is_whole or self.protocol is None:
            return
        try:
            read = _MESSAGES.get(self.protocol)
            message = read(self.data) if read is not None else True
        except ParseError:
            message = True  # it will not get better
        if isinstance(message, ClientHello):
            self.hello = message
        self.is_whole = message is not None

    def end(self) -> None:
        """Wait for no more."""
        self.is_all = self.is_whole = True

    # -- questions

    def names(self) -> tuple[str, ...] | None:
        """Return the names that a route may have for the TLS server that is asked for.

        They are the name and, as in certificates, the one with a ``*`` for its first label (RFC
        9525, section 6.3); none, where none is asked for.
        """
        if not self._knows_hello():
            return None
        if self.hello is None or self.hello.server_name is None:
            return ()
        name = self.hello.server_name.removesuffix(".")
        return name, "*." + name.partition(".")[2]

    def offers(self, alpn: Collection[str]) -> bool | None:
        """Return whether a TLS client speaks one of these protocols."""
        if not self._knows_hello():
            return None
        return self.hello is not None and any(each in alpn for each in self.hello.alpn)

    def speaks(self, protocols: Collection[str]) -> bool | None:
        if self.protocol is None:
            return False if self.is_all else None
        return self.protocol in protocols

    def starts_with(self, beginnings: Collection[bytes]) -> bool | None:
        if any(self.data.startswith(each) for each in beginnings):
            return True
        may_become = not self.is_all and any(each.startswith(self.data) for each in beginnings)
        return None if may_become else False

    def _knows_hello(self) -> bool:
        """Whether no more bytes can change what is known of a hello."""
        return self.is_all or self.is_whole or not RECORD.startswith(self.data[: len(RECORD)])
