"""What a peer says first, read for those who decide by it: in asyncio, or in ``data_received``.

A parser is a function of all bytes that have come so far. It returns what they say, or None: more
bytes are needed; it raises ``ParseError`` where they are wrong, mostly at the first byte, and at
the latest when the message is whole or at its cap. Further bytes never change what it has decided.
It keeps nothing and consumes nothing: what the bytes are for is to come, an upstream for example.

- ``tls``: the ClientHello, with the name of the server that is asked for;
- ``proxy``: the header by which a load balancer tells whom it speaks for; ``proxy_ssl``: what it
  says of TLS; ``proxy_building``: such headers to send;
- ``http``: the head of an HTTP/1 request;
- ``postgres``: the first packet of a PostgreSQL client;
- ``guess``: which protocol it is, where one port serves several;
- ``reading``: what they have in common.

Each has caps, so each call is bounded: it looks at some 16 KiB, once. Whoever sends byte by byte
has them looked at again for each: 16,384 calls take a third of a second in the worst case (64
records, or one endless header), which is about what receiving them takes. How long to wait is the
caller's affair: None may be the answer for ever.
"""

from muxcore.errors import ParseError
from muxcore.parsers.guess import protocol_of
from muxcore.parsers.http import HttpHead, http_head
from muxcore.parsers.postgres import PostgresStartup, postgres_error, postgres_startup
from muxcore.parsers.proxy import ProxyHeader, proxy_header
from muxcore.parsers.proxy_building import build_proxy_header
from muxcore.parsers.proxy_ssl import ProxySsl
from muxcore.parsers.tls import ClientHello, tls_alert, tls_client_hello

__all__ = [
    "ClientHello",
    "HttpHead",
    "ParseError",
    "PostgresStartup",
    "ProxyHeader",
    "ProxySsl",
    "build_proxy_header",
    "http_head",
    "postgres_error",
    "postgres_startup",
    "protocol_of",
    "proxy_header",
    "tls_alert",
    "tls_client_hello",
]
