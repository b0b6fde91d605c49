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

    They are read only as far as somebody asks: most routes want to know who speaks TLS.

    Attributes:
        data: they.
        is_all: no more are waited for, so that nothing depends on them.
    """

    __slots__ = ("_has_read", "_hello", "_is_whole", "_protocol", "data", "is_all")

    def __init__(self) -> None:
        self.data = b""
        self.is_all = False
        self._has_read = True  # all of it
        self._protocol: str | None = None
        self._hello: ClientHello | None = None
        self._is_whole = False

    def add(self, data: bytes) -> None:
        """Hear more."""
        self.data += data
        self._has_read = False

    def end(self) -> None:
        """Wait for no more."""
        self.is_all = True

    @property
    def protocol(self) -> str | None:
        """See ``First``."""
        self._read()
        return self._protocol

    @property
    def hello(self) -> ClientHello | None:
        """See ``First``."""
        self._read()
        return self._hello

    @property
    def is_whole(self) -> bool:
        """Whether the first message has come, or there is none to wait for."""
        self._read()
        return self._is_whole or self.is_all

    def _read(self) -> None:
        if self._has_read:
            return
        self._has_read = True
        if self._protocol is None:
            self._protocol = protocol_of(self.data)
        if self._is_whole or self._protocol is None:
            return
        try:
            read = _MESSAGES.get(self._protocol)
            message = read(self.data) if read is not None else True
        except ParseError:
            message = True  # it will not get better
        if isinstance(message, ClientHello):
            self._hello = message
        self._is_whole = message is not None

    # -- questions

    def names(self) -> tuple[str, ...] | None:
        """Return the names that a route may have for the TLS server that is asked for.

        They are the name and, as in certificates, the one with a ``*`` for its first label (RFC
        9525, section 6.3); none, where none is asked for.
        """
        if not self._knows_hello():
            return None
        hello = self.hello if self._may_be_tls() else None
        if hello is None or hello.server_name is None:
            return ()
        name = hello.server_name.removesuffix(".")
        return name, "*." + name.partition(".")[2]

    def offers(self, alpn: Collection[str]) -> bool | None:
        """Return whether a TLS client speaks one of these protocols."""
        if not self._knows_hello():
            return None
        hello = self.hello
        return hello is not None and any(each in alpn for each in hello.alpn)

    def speaks(self, protocols: Collection[str]) -> bool | None:
        protocol = self.protocol
        if protocol is None:
            return False if self.is_all else None
        return protocol in protocols

    def starts_with(self, beginnings: Collection[bytes]) -> bool | None:
        if any(self.data.startswith(each) for each in beginnings):
            return True
        may_become = not self.is_all and any(each.startswith(self.data) for each in beginnings)
        return None if may_become else False

    def _knows_hello(self) -> bool:
        """Whether no more bytes can change what is known of a hello."""
        return not self._may_be_tls() or self.is_whole

    def _may_be_tls(self) -> bool:
        return RECORD.startswith(self.data[: len(RECORD)])
