"""The PROXY header that an upstream is sent: for a client, or for a connection of our own."""

from __future__ import annotations

from typing import Any, Literal, Protocol


class Told(Protocol):
    """A connection that a header may tell of: a transport, or what is left of one."""

    def get_extra_info(self, name: str, default: Any = None) -> Any: ...


def header_for(send: str, client: Told | None) -> bytes:
    """Return the header.

    Whom it tells of is the client as it is known here: where that came through a proxy, the one
    that the proxy told of, with the TLVs that came along.

    Args:
        send: one of ``muxcore.pool.upstream.HEADERS``; "": none.
        client: whom the connection is for; None: nobody.
    """
    if not send:
        return b""
    from muxcore.parsers.proxy import CRC32C, NOOP, ProxyHeader
    from muxcore.parsers.proxy_building import build_proxy_header

    version: Literal[1, 2] = 1 if send == "v1" else 2
    came: ProxyHeader | None = client.get_extra_info("proxy") if client is not None else None
    local = client is None or (came is not None and came.command == "LOCAL")
    ends: tuple[Any, Any] = (None, None)
    if client is not None and not local:
        ends = client.get_extra_info("peername"), client.get_extra_info("sockname")
    tlvs = came.tlvs if came is not None and version == 2 else ()
    return build_proxy_header(
        *ends,
        version=version,
        local=local,
        tlvs=[tlv for tlv in tlvs if tlv[0] not in (CRC32C, NOOP)],
        checksum=send == "v2-crc32c",
    )
