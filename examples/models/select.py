"""The select model: at every turn, one process asks the kernel about all of its clients.

    python examples/models/select.py 127.0.0.1:9000

Nothing here may block: a call that would is made once the kernel says that it will not, and what
could not be sent waits in a queue. The price: each turn names every client, and a descriptor of
FD_SETSIZE or more cannot be named at all (select(2)).

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
FD_SETSIZE = 1024  # <sys/select.h>; compiled into libc, whatever `ulimit -n` says


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

    def reads(self) -> bool:
        """Whether to receive from it: the queue of one who never reads must not fill memory."""
        return not self.ended and len(self.queue) < HIGH


class Server:
    """A listener and its clients; each turn does one thing for each of them that is ready."""

    def __init__(self, listener: socket.socket, handler: type[Echo] = Echo) -> None:
        self.listener = listener
        self.handler = handler
        self.clients: dict[int, Client] = {}  # by descriptor
        self.accept_at = self.deadline = 0.0  # times of time.monotonic(); 0: none
        self.signals = 0
        self.catch()

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
        readers = [self.waker.fileno()]
        if self.accept_at <= now:
            self.accept_at = 0.0
            readers.append(self.listener.fileno())
        readers += [fd for fd, client in self.clients.items() if client.reads()]
        writers = [fd for fd, client in self.clients.items() if client.queue]
        later = [max(0.0, at - now) for at in (self.accept_at, self.deadline) if at]
        readable, writable, _ = select.select(readers, writers, [], min(later, default=None))
        if self.waker.fileno() in readable:
            self.waker.recv(CHUNK)
        return {*readable, *writable}

    def accept(self) -> None:
        """Accept one client."""
        try:
            sock, _ = self.listener.accept()
        except (BlockingIOError, ConnectionAbortedError):  # it has gone again
            return
        except OSError as exc:  # EMFILE: it stays in the queue, and we would be told without end
            print(f"accept failed, next in {REST} s: {exc}", file=sys.stderr)
            self.accept_at = time.monotonic() + REST
            return
        try:
            self.open(sock)
        except Exception as exc:
            print(f"a client is refused: {exc!r}", file=sys.stderr)
            sock.close()

    def open(self, sock: socket.socket) -> None:
        """Serve a client from now on."""
        if sock.fileno() >= FD_SETSIZE:
            raise OSError(f"select() cannot watch descriptor {sock.fileno()}, {FD_SETSIZE=}")
        client = Client(sock, self.handler())
        sock.setblocking(False)
        self.clients[sock.fileno()] = client

    def receive(self, client: Client) -> None:
        """Receive once, and answer."""
        try:
            data = client.sock.recv(CHUNK)
        except BlockingIOError:  # it was ready for sending only
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

    def close(self, client: Client) -> None:
        """Forget a client."""
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
    parser = argparse.ArgumentParser(description="Echo under the select model.")
    parser.add_argument("address", help="HOST:PORT, or a port; port 0 takes a free one")
    options = parser.parse_args()
    try:
        listener = listen(options.address)
    except (OSError, OverflowError, ValueError) as exc:
        parser.exit(1, f"{parser.prog}: cannot listen on {options.address}: {exc}\n")
    server = Server(listener)
    host, port = listener.getsockname()[:2]
    print(f"listening on {f'[{host}]' if ':' in host else host}:{port}", flush=True)
    server.serve()


if __name__ == "__main__":
    main()
