"""HTTP/1.1 by the sans-I/O library h11: it knows the protocol, muxcore moves the bytes.

    pip install h11
    python examples/http_responder.py 9000
    curl -i http://127.0.0.1:9000/
    curl -d 'shout this' http://127.0.0.1:9000/upper

Keep-alive and pipelining (RFC 9112, 9.3), 400 for what is no request, and a cap on all that a
client can make us keep: its head, its body, and how long it may be silent.
"""

from __future__ import annotations

import argparse
import sys
from email.utils import formatdate
from http import HTTPStatus

import h11

import muxcore

MAX_HEAD = 16_384  # bytes of a request line with its headers; above: 431
MAX_BODY = 1_048_576  # bytes; above: 413
MAX_LINGER = 4 * MAX_BODY  # bytes that a client we refused may go on sending

# idle_timeout ends what is kept alive for nothing, and requests that stop half-way. An answer is as
# long as a body at the most, and while one waits to be sent no further request is read.
LIMITS = muxcore.Limits(idle_timeout=30, write_buffer=4 * MAX_BODY)


class Responder:
    """One per client: bytes go into h11, events come out of it, and answers go back."""

    def __init__(self) -> None:
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=MAX_HEAD)
        self._request: h11.Request | None = None
        self._body = bytearray()
        self._lingering = 0  # bytes that came after our last word
        self._is_last = False  # the next answer ends the connection

    def connection_made(self, transport: muxcore.Transport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        if self._http.our_state in (h11.MUST_CLOSE, h11.CLOSED):
            self._lingering += len(data)
            if self._lingering > MAX_LINGER:
                self._transport.abort()
            return
        self._http.receive_data(data)
        try:
            while self._heard(self._http.next_event()):
                pass
        except h11.RemoteProtocolError as exc:
            self._refuse(HTTPStatus(exc.error_status_hint), f"{exc}\n")

    def draining(self) -> None:
        """End what is kept alive for nothing, and anything else with its next answer."""
        self._is_last = True
        if self._http.their_state is h11.IDLE and not self._http.trailing_data[0]:
            self._transport.close()

    def _heard(self, event: object) -> bool:
        """Handle one event; False if there is nothing more to do with what has arrived."""
        match event:
            case h11.Request():
                self._request = event
                self._body.clear()
                if self._http.they_are_waiting_for_100_continue:
                    self._send(h11.InformationalResponse(status_code=100, headers=[]))
            case h11.Data(data=data):
                self._body += data
                if len(self._body) > MAX_BODY:
                    self._refuse(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "the body is too large\n")
                    return False
            case h11.EndOfMessage():
                return self._finish_request()
            case _:  # NEED_DATA
                return False
        return True

    def _finish_request(self) -> bool:
        assert self._request is not None
        self._respond(*answer(self._request.method, self._request.target, bytes(self._body)))
        if self._http.our_state is h11.DONE:
            self._http.start_next_cycle()  # the next request may be here already: pipelining
            self._request = None
            return True
        self._say_goodbye()
        return False

    def _refuse(self, status: HTTPStatus, why: str) -> None:
        self._respond(status, why.encode(), ("Connection", "close"))
        self._say_goodbye()

    def _say_goodbye(self) -> None:
        """End our direction and go on reading until the client ends its own.

        Closing while bytes still arrive makes TCP send a reset, which can destroy the answer before
        the client has read it (RFC 9112, 9.6).
        """
        self._transport.write_eof()

    def _respond(self, status: HTTPStatus, body: bytes, *headers: tuple[str, str]) -> None:
        if self._is_last and ("Connection", "close") not in headers:
            headers += (("Connection", "close"),)
        response = h11.Response(
            status_code=status,
            reason=status.phrase,
            headers=[
                ("Date", formatdate(usegmt=True)),
                ("Content-Type", "text/plain; charset=utf-8"),
                ("Content-Length", str(len(body))),
                *headers,
            ],
        )
        to_head = self._request is not None and self._request.method == b"HEAD"
        content = [] if to_head else [h11.Data(data=body)]
        self._send(response, *content, h11.EndOfMessage())

    def _send(self, *events: h11.Event) -> None:
        self._transport.write(b"".join(self._http.send(event) or b"" for event in events))


def answer(method: bytes, target: bytes, body: bytes) -> tuple[HTTPStatus, bytes]:
    """The application: no word of it is about HTTP's bytes."""
    match method, target.partition(b"?")[0]:
        case b"GET" | b"HEAD", b"/":
            return HTTPStatus.OK, b"hello\n"
        case b"POST", b"/upper":
            return HTTPStatus.OK, body.upper()
        case _:
            return HTTPStatus.NOT_FOUND, b"there are GET / and POST /upper\n"


def main() -> int:
    parser = argparse.ArgumentParser(description="Answer HTTP/1.1 requests.")
    parser.add_argument("address", metavar="ADDRESS", help="a port, HOST:PORT or unix:PATH")
    parser.add_argument("--engine", help="see `muxcore engines`; default: the best one here")
    options = parser.parse_args()
    try:
        return muxcore.serve(
            Responder,
            options.address,
            engine=options.engine,
            limits=LIMITS,
            on_ready=lambda server: print(f"listening on {server.addresses[0]}", flush=True),
        )
    except muxcore.MuxcoreError as exc:
        parser.exit(1, f"{parser.prog}: {exc}\n")


if __name__ == "__main__":
    sys.exit(main())
