"""What waits to be sent, in as little memory as it needs."""

from __future__ import annotations

from collections import deque

from muxcore.protocol import Bytes

# Below that bytes are copied together: an object of its own costs about 350 bytes (the bytes', a
# memoryview's and its managed buffer's), and one more place in sendmsg
_SMALL = 4096
_TAIL = 65_536  # bytes copied together; sendmsg takes several, and a long one is slow to shift
_GATHER = 64  # buffers one sendmsg() takes; the kernel allows IOV_MAX = 1024, more wins nothing


class SendQueue:
    """Bytes in order.

    A large ``bytes`` is shared, all else is copied, as it may change after ``write()`` returned.

    Attributes:
        size: bytes in it; to be read, not set.
    """

    __slots__ = ("_buffers", "size")

    def __init__(self) -> None:
        # made when it is needed: an empty deque has room for 64, and takes 600 bytes
        self._buffers: deque[memoryview | bytearray] | None = None
        self.size = 0

    def add(self, data: Bytes, start: int) -> None:
        """Append ``data`` from ``start`` on; a memoryview must be one of bytes."""
        size = len(data) - start
        self.size += size
        buffers = self._buffers
        if buffers is None:
            buffers = self._buffers = deque()
        if size >= _SMALL:
            whole = data if isinstance(data, bytes) else bytes(data)
            buffers.append(memoryview(whole)[start:])
            return
        rest = memoryview(data)[start:] if start else data
        if buffers:
            tail = buffers[-1]
            # no view of a bytearray is kept anywhere, so it may grow and shrink
            if isinstance(tail, bytearray) and len(tail) + size <= _TAIL:
                tail += rest
                return
        buffers.append(bytearray(rest))

    def parts(self) -> list[memoryview | bytearray]:
        """Return what one sendmsg() is to take."""
        buffers = self._buffers or ()
        return [buffers[i] for i in range(min(len(buffers), _GATHER))]

    def drop(self, sent: int) -> None:
        """Forget the first bytes: they are sent."""
        self.size -= sent
        buffers = self._buffers or deque()
        while sent:
            first = buffers[0]
            if sent < len(first):
                if isinstance(first, bytearray):
                    del first[:sent]
                else:
                    buffers[0] = first[sent:]
                return
            sent -= len(first)
            buffers.popleft()

    def clear(self) -> None:
        self._buffers = None
        self.size = 0
