"""The epoll model: the kernel keeps the list of clients, and tells only of those that are ready.

    python examples/models/epoll.py 127.0.0.1:9000
    python examples/models/epoll.py 127.0.0.1:9000 --edge

Nothing here may block: a call that would is made once the kernel says that it will not, and what
could not be sent waits in a queue. Level-triggered, the kernel says so at every wait as long as it
is true; edge-triggered (--edge), once, when it becomes true, and the rest is ours to remember
(epoll(7)).

The page stands alone. process.py, select.py and epoll.py have the same functions in the same order:
a diff of two of them shows how the models differ, and nothing else.
"""

import sys

if __name__ == "__main__" and not sys.flags.safe_path:
    del sys.path[0]  # this folder: whoever imports "select", as socket does, would get select.py

import argparse
import select
import signal
import socket
import time
import traceback
from types import FrameType

CHUNK = 65_536  # bytes; the most that one receive takes
HIGH = 262_144  # bytes; a client for whom so much is queued is not read until it has read
REST = 0.5  # s; a failed accept is not tried again sooner
DRAIN = 5.0  # s; what is queued when a signal ends us may take so long
EDGE = select.EPOLLIN | select.EPOLLOUT | select.EPOLLET  # watched once, for good


class Echo:
    """What a client is told, one object a client: write another to speak another protocol."""

    def received(self, data: bytes) -> bytes:
        """Return the answer. Empty data is the client's EOF; the answer to it is the last one."""
        return data


class Client:
    """One connection."""

    def __init__(self, sock: socket.socket, handler: Echo) -> None:
        self.sock = sock
        self.handler = handler
        self.queue = bytearray()  # what the kernel has not taken yet
        self.ended = False  # its EOF has come
        self.ending = False  # we end: it is told nothing more, our EOF follows what is queued
        self.mask = select.EPOLLIN  # what the kernel watches, under a level trigger

    def reads(self) -> bool:
        """Whether to receive from it: the queue of one who never reads must not fill memory."""
        return not self.ended and len(self.queue) < HIGH


class Server:
    """A listener and its clients; each turn does one thing for each of them that is ready."""

    def __init__(
        self, listener: socket.socket, handler: type[Echo] = Echo, edge: bool = False
    ) -> None:
        self.listener = listener
        self.handler = handler
        self.clients: dict[int, Client] = {}  # by descriptor
        self.accept_at = self.deadline = 0.0  # times of time.monotonic(); 0: none
        self.signals = 0
        self.catch()
        self.edge = edge
        self.hot: set[int] = set()  # under an edge trigger: no EAGAIN has said that all was read
        self.epoll = select.epoll()
        self.epoll.register(self.waker, select.EPOLLIN)
        self.epoll.register(self.listener, select.EPOLLIN)  # level: one accept a turn is enough

    def catch(self) -> None:
        """Have signals wake the wait: they write a byte to a socket that it watches.

        A note alone would not do: Python goes on waiting after EINTR (PEP 475).
        """
        waker, writer = socket.socketpair()
        waker.setblocking(False)
        writer.setblocking(False)
        signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
        self.waker, self.writer = waker, writer
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self.note)

    def note(self, number: int, frame: FrameType | None) -> None:
        """Count a signal, and no more: it may come between any two steps."""
        self.signals += 1

    def serve(self) -> None:
        """Serve until a signal; then send what is queued, unless a second one comes."""
        while not self.signals:
            self.turn()
        self.epoll.unregister(self.listener)
        self.listener.close()
        self.accept_at = float("inf")
        self.deadline = time.monotonic() + DRAIN
        for client in list(self.clients.values()):
            client.ending = True
            self.send(client)
        while self.clients and self.signals < 2 and time.monotonic() < self.deadline:
            self.turn()
        for client in list(self.clients.values()):
            self.close(client)
        signal.set_wakeup_fd(-1)
        self.waker.close()
        self.writer.close()

    def turn(self) -> None:
        """Wait; then one accept, send or receive for whoever is ready: no flood starves others."""
        for fd in self.wait():
            if fd == self.listener.fileno():
                self.accept()
            if (client := self.clients.get(fd)) and client.queue:
                self.send(client)
            if (client := self.clients.get(fd)) and client.reads():
                self.receive(client)

    def wait(self) -> set[int]:
        """Sleep until somebody is ready, or until it is time; return who is ready."""
        now = time.monotonic()
        if 0 < self.accept_at <= now:
            self.accept_at = 0.0
            self.epoll.modify(self.listener, select.EPOLLIN)
        later = [max(0.0, at - now) for at in (self.accept_at, self.deadline) if at]
        again = {fd for fd in self.hot if self.clients[fd].reads()}
        ready = {fd for fd, _ in self.epoll.poll(0 if again else min(later, default=None))}
        if self.edge:
            self.hot |= ready & self.clients.keys()
        if self.waker.fileno() in ready:
            self.waker.recv(CHUNK)
        return ready | again

    def accept(self) -> None:
        """Accept one client."""
        try:
            sock, _ = self.listener.accept()
        except (BlockingIOError, ConnectionAbortedError):  # it has gone again
            return
        except OSError as exc:  # EMFILE: it stays in the queue, and we would be told without end
            print(f"accept failed, next in {REST} s: {exc}", file=sys.stderr)
            self.accept_at = time.monotonic() + REST
            self.epoll.modify(self.listener, 0)
            return
        try:
            self.open(sock)
        except Exception as exc:
            print(f"a client is refused: {exc!r}", file=sys.stderr)
            sock.close()

    def open(self, sock: socket.socket) -> None:
        """Serve a client from now on."""
        client = Client(sock, self.handler())
        sock.setblocking(False)
        self.epoll.register(sock, EDGE if self.edge else client.mask)
        self.clients[sock.fileno()] = client

    def receive(self, client: Client) -> None:
        """Receive once, and answer."""
        try:
            data = client.sock.recv(CHUNK)
        except BlockingIOError:  # it was ready for sending only, or all has been read
            self.hot.discard(client.sock.fileno())
            return
        except OSError:  # a reset
            self.close(client)
            return
        try:
            if not client.ending:
                client.queue += client.handler.received(data)
        except Exception:  # the fault of one client's handler is not the end of all
            traceback.print_exc()
            self.close(client)
            return
        client.ended = not data
        self.send(client)

    def send(self, client: Client) -> None:
        """Send what the kernel takes of the queue; after the last byte it is time to end."""
        try:
            if client.queue:
                del client.queue[: client.sock.send(client.queue)]
            if client.ending and not client.queue:
                # No close yet: with unread input that is a reset, which takes along what is still
                # on its way (RFC 1122, 4.2.2.13). What comes is dropped until the client's EOF.
                client.sock.shutdown(socket.SHUT_WR)
        except BlockingIOError:  # the kernel takes nothing now
            pass
        except OSError:  # a reset
            client.queue.clear()
            client.ended = True
        if client.ended and not client.queue:
            self.close(client)
            return
        mask = select.EPOLLIN if client.reads() else 0
        mask |= select.EPOLLOUT if client.queue else 0  # never 0: who is not read has a queue
        if mask != client.mask and not self.edge:
            self.epoll.modify(client.sock, mask)
            client.mask = mask

    def close(self, client: Client) -> None:
        """Forget a client; the kernel first, since a copy of the socket keeps its events coming."""
        self.hot.discard(client.sock.fileno())
        self.epoll.unregister(client.sock)
        del self.clients[client.sock.fileno()]
        client.sock.close()


def listen(address: str) -> socket.socket:
    """Return a listener that does not block: who made it ready may have gone when we accept."""
    host, _, port = address.rpartition(":")
    host = host.strip("[]") or "127.0.0.1"  # a bare port is for this machine alone
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.create_server((host, int(port)), family=family, backlog=socket.SOMAXCONN)
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # clients inherit it
    listener.setblocking(False)  # this they do not
    return listener


def main() -> None:
    parser = argparse.ArgumentParser(description="Echo under the epoll model.")
    parser.add_argument("address", help="HOST:PORT, or a port; port 0 takes a free one")
    parser.add_argument("--edge", action="store_true", help="edge-triggered; default: level")
    options = parser.parse_args()
    try:
        listener = listen(options.address)
    except (OSError, OverflowError, ValueError) as exc:
        parser.exit(1, f"{parser.prog}: cannot listen on {options.address}: {exc}\n")
    server = Server(listener, edge=options.edge)
    host, port = listener.getsockname()[:2]
    print(f"listening on {f'[{host}]' if ':' in host else host}:{port}", flush=True)
    server.serve()


if __name__ == "__main__":
    main()
