"""The process model: the server forks, and each client has a process of its own.

    python examples/models/process.py 127.0.0.1:9000

A child's calls block, and hold up nobody but its own client; the kernel's scheduler does the rest.
The price: a fork for each client, and the memory of a process for as long as it stays.

The page stands alone. process.py, select.py and epoll.py have the same functions in the same order:
a diff of two of them shows how the models differ, and nothing else.
"""

import sys

if __name__ == "__main__" and not sys.flags.safe_path:
    del sys.path[0]  # this folder: whoever imports "select", as socket does, would get select.py

import argparse
import os
import select
import signal
import socket
import time
import traceback
from types import FrameType

CHUNK = 65_536  # bytes; the most that one receive takes
REST = 0.5  # s; a failed accept is not tried again sooner
DRAIN = 5.0  # s; what is queued when a signal ends us may take so long


class Echo:
    """What a client is told, one object a client: write another to speak another protocol."""

    def received(self, data: bytes) -> bytes:
        """Return the answer. Empty data is the client's EOF; the answer to it is the last one."""
        return data


class Client:
    """One connection, in the process that serves it."""

    def __init__(self, sock: socket.socket, handler: Echo) -> None:
        self.sock = sock
        self.handler = handler
        self.queue = bytearray()  # what is to be sent
        self.ended = False  # its EOF has come
        self.ending = False  # we end: it is told nothing more, our EOF follows what is queued

    def reads(self) -> bool:
        """Whether to receive from it: all was sent by now, so the queue of each is empty."""
        return not self.ended


class Server:
    """A listener and its children; in a child, one client."""

    def __init__(self, listener: socket.socket, handler: type[Echo] = Echo) -> None:
        self.listener = listener
        self.handler = handler
        self.clients: set[int] = set()  # the children's pids
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
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGCHLD):
            signal.signal(number, self.note)

    def note(self, number: int, frame: FrameType | None) -> None:
        """Count a signal, and no more: it may come between any two steps."""
        self.signals += number != signal.SIGCHLD

    def serve(self) -> None:
        """Serve until a signal; then send what is queued, unless a second one comes."""
        while not self.signals:
            self.turn()
        self.listener.close()
        self.accept_at = float("inf")
        self.deadline = time.monotonic() + DRAIN
        for client in list(self.clients):
            os.kill(client, signal.SIGTERM)
        while self.clients and self.signals < 2 and time.monotonic() < self.deadline:
            self.turn()
        for client in list(self.clients):
            self.close(client)
        signal.set_wakeup_fd(-1)
        self.waker.close()
        self.writer.close()

    def turn(self) -> None:
        """Wait; then accept, if somebody has come."""
        if self.listener.fileno() in self.wait(self.listener):
            self.accept()

    def wait(self, sock: socket.socket) -> set[int]:
        """Sleep until the socket is ready, a child has ended, or until it is time."""
        now = time.monotonic()
        poll = select.poll()
        poll.register(self.waker, select.POLLIN)
        if self.accept_at <= now:
            self.accept_at = 0.0
            poll.register(sock, select.POLLIN)
        later = [max(0.0, at - now) for at in (self.accept_at, self.deadline) if at]
        ready = {fd for fd, _ in poll.poll(min(later) * 1000 if later else None)}
        if self.waker.fileno() in ready:
            self.waker.recv(CHUNK)
            # one SIGCHLD may stand for several children (signal(7)); who is not asked for, stays
            while self.clients and (pid := os.waitpid(-1, os.WNOHANG)[0]):
                self.clients.discard(pid)
        return ready

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
        """Serve a client from now on, in a child that has nothing else of ours."""
        pid = os.fork()
        if pid:
            self.clients.add(pid)
            sock.close()  # or the client would hear of no EOF, and the next child inherit it
            return
        try:
            inherited = self.listener, self.waker, self.writer
            self.catch()  # a waker of its own
            self.clients.clear()
            for each in inherited:
                each.close()
            client = Client(sock, self.handler())
            while client.reads():
                if self.signals and not client.ending:
                    client.ending = True
                    self.send(client)
                if sock.fileno() in self.wait(sock):
                    self.receive(client)
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(0)  # not through what the parent has still to do: its finally, its buffers

    def receive(self, client: Client) -> None:
        """Receive once, and answer."""
        try:
            data = client.sock.recv(CHUNK)
        except OSError:  # a reset
            client.ended = True
            return
        if not client.ending:
            client.queue += client.handler.received(data)
        client.ended = not data
        self.send(client)

    def send(self, client: Client) -> None:
        """Send all that is queued, however long the client takes; then it is time to end."""
        try:
            if client.queue:
                client.sock.sendall(client.queue)
            if client.ending:
                # No close yet: with unread input that is a reset, which takes along what is still
                # on its way (RFC 1122, 4.2.2.13). What comes is dropped until the client's EOF.
                client.sock.shutdown(socket.SHUT_WR)
        except OSError:  # a reset
            client.ended = True
        client.queue.clear()

    def close(self, client: int) -> None:
        """End a child that has not ended in time."""
        os.kill(client, signal.SIGKILL)
        os.waitpid(client, 0)
        self.clients.remove(client)


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
    parser = argparse.ArgumentParser(description="Echo under the process model.")
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
