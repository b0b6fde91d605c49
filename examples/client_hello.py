"""What a TLS client says first, and the name of the server that it wants (for tls_router.py).

The ClientHello is one handshake message, RFC 8446, section 4.1.2. It travels in records (section
5.1), one or many, and TCP may cut those anywhere: so the pieces are fed as they come. Nothing is
decrypted; of an Encrypted Client Hello this is the outer name.
"""

from __future__ import annotations

MAX_HELLO = 16_384  # bytes of a hello; with a post-quantum key share it has about 2,000
# Each record costs us more than its client: 15,000 of one byte took a tenth of a second. Clients
# send one; those that hide the name from middleboxes cut it into a few.
MAX_RECORDS = 64

_RECORD = bytes((22, 3))  # how each of its records begins: a handshake's type, and TLS 1.x
_MAX_RECORD = 16_384  # bytes of plaintext: RFC 8446, section 5.1
_CLIENT_HELLO, _SERVER_NAME, _HOST_NAME = 1, 0, 0

# Alerts: RFC 8446, section 6.
UNEXPECTED_MESSAGE, RECORD_OVERFLOW, ILLEGAL_PARAMETER, DECODE_ERROR = 10, 22, 47, 50
MISSING_EXTENSION, UNRECOGNIZED_NAME = 109, 112


class HelloError(ValueError):
    """This client cannot be served; the text says why.

    Attributes:
        answer: the bytes to send it, a fatal alert; empty for one that does not speak TLS.
    """

    def __init__(self, reason: str, alert: int | None) -> None:
        super().__init__(reason)
        self.answer = b"" if alert is None else bytes((21, 3, 3, 0, 2, 2, alert))


class ClientHello:
    """A hello in the making. What it keeps and what it costs is bounded: see ``MAX_RECORDS``."""

    def __init__(self) -> None:
        self._received = bytearray()
        self._at = 0  # in what was received: how far it is read
        self._left = 0  # bytes of the current record that are not read
        self._records = 0
        self._message = bytearray()

    def feed(self, data: bytes) -> str | None:
        """Take what has come; return the server's name in lower case, or None: more is to come.

        Raises:
            HelloError: it is no hello, is too long, or names no server.
        """
        self._received += data
        while not self._is_whole():
            if not self._left and not self._begin_record():
                return None
            piece = self._received[self._at : self._at + self._left]
            if not piece:
                return None
            self._message += piece
            self._at += len(piece)
            self._left -= len(piece)
        return _server_name(bytes(self._message))

    def take(self) -> bytes:
        """Return every byte that was fed, and forget them: they are the upstream's."""
        received = bytes(self._received)
        self._received.clear()
        self._message.clear()
        self._at = self._left = 0
        return received

    def _begin_record(self) -> bool:
        """Read a record's header; False if it has not come yet."""
        header = self._received[self._at : self._at + 5]
        if not _RECORD.startswith(header[:2]):
            if not self._at:
                raise HelloError("this is not TLS", None)
            raise HelloError("malformed: another record amid the hello", UNEXPECTED_MESSAGE)
        if len(header) < 5:
            return False
        self._left = int.from_bytes(header[3:])
        if not self._left:  # forbidden; and many of them would cost us and not the client
            raise HelloError("malformed: an empty record", UNEXPECTED_MESSAGE)
        if self._left > _MAX_RECORD:
            raise HelloError(f"malformed: a record of {self._left} bytes", RECORD_OVERFLOW)
        self._records += 1
        if self._records > MAX_RECORDS:
            raise HelloError(f"malformed: more than {MAX_RECORDS} records", UNEXPECTED_MESSAGE)
        self._at += 5
        return True

    def _is_whole(self) -> bool:
        if self._message and self._message[0] != _CLIENT_HELLO:
            raise HelloError("malformed: it does not begin with a hello", UNEXPECTED_MESSAGE)
        if len(self._message) < 4:
            return False
        size = int.from_bytes(self._message[1:4])
        if size > MAX_HELLO:
            raise HelloError(
                f"too long: a hello of {size} bytes, {MAX_HELLO} may be", ILLEGAL_PARAMETER
            )
        return len(self._message) >= 4 + size


class _Fields:
    """Bytes that are read field by field."""

    def __init__(self, data: bytes) -> None:
        self.left = data

    def take(self, size: int) -> bytes:
        taken, self.left = self.left[:size], self.left[size:]
        if len(taken) < size:
            raise HelloError("malformed: a field is longer than what it is in", DECODE_ERROR)
        return taken

    def number(self, size: int) -> int:
        return int.from_bytes(self.take(size))

    def vector(self, size: int) -> _Fields:
        """Take what is preceded by its length, a number of ``size`` bytes."""
        return _Fields(self.take(self.number(size)))

    def end(self) -> None:
        if self.left:
            raise HelloError("malformed: bytes that belong to no field", DECODE_ERROR)


def _server_name(message: bytes) -> str:
    """Return the name in a message that is whole."""
    hello = _Fields(message[1:]).vector(3)  # what follows it in the record is not ours to judge
    hello.take(2 + 32)  # legacy_version, random
    for size in (1, 2, 1):  # legacy_session_id, cipher_suites, legacy_compression_methods
        hello.vector(size)
    extensions = hello.vector(2) if hello.left else hello  # before TLS 1.3 there may be none
    hello.end()
    names = []
    while extensions.left:
        kind, content = extensions.number(2), extensions.vector(2)
        if kind == _SERVER_NAME:
            names.append(_host_name(content))
    if not names:
        raise HelloError("it names no server", MISSING_EXTENSION)
    if len(names) > 1:  # else the upstream could take the other one: RFC 8446, section 4.2
        raise HelloError("malformed: two server_name extensions", ILLEGAL_PARAMETER)
    return names[0]


def _host_name(extension: _Fields) -> str:
    """Return the name in the extension: RFC 6066, section 3."""
    entries = extension.vector(2)
    extension.end()
    kind, name = entries.number(1), entries.vector(2).left
    entries.end()  # one name of a type, and there is one type
    if kind != _HOST_NAME or not name or not name.isascii():
        raise HelloError("malformed: a server name in no form that there is", DECODE_ERROR)
    return name.decode().lower()  # ASCII; host names are compared without regard to case
