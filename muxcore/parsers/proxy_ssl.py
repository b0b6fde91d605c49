"""What a PROXY header of version 2 says of the client's TLS: section 2.2.6 of its specification."""

from __future__ import annotations

from dataclasses import dataclass

from muxcore.parsers.reading import Fields

# PP2_SUBTYPE_SSL_…
VERSION, CN, CIPHER, SIG_ALG, KEY_ALG, GROUP, SIG_SCHEME, CLIENT_CERT = range(0x21, 0x29)
_BY_TLS, _CERT_CONN, _CERT_SESS = 1, 2, 4  # PP2_CLIENT_…


@dataclass(frozen=True, slots=True)
class ProxySsl:
    """The client's TLS, which ended at the proxy.

    Attributes:
        is_tls: the client was connected with TLS.
        has_certificate: it showed a certificate, in this connection or in one of its session.
        is_verified: that was verified.
        tlvs: the (type, value) pairs in it, in order: 0x21 (the version, such as b"TLSv1.3"), 0x22
            (the certificate's common name), 0x23 (the cipher), 0x24 and 0x25 (the algorithms of its
            signature and key), 0x26 (the key exchange's group), 0x27 (the signature's scheme), 0x28
            (the certificate).
    """

    is_tls: bool
    has_certificate: bool
    is_verified: bool
    tlvs: tuple[tuple[int, bytes], ...]

    @property
    def version(self) -> bytes | None:
        """The version, such as b"TLSv1.3"."""
        return first(self.tlvs, VERSION)

    @property
    def common_name(self) -> bytes | None:
        """The certificate's common name, UTF-8."""
        return first(self.tlvs, CN)

    @property
    def cipher(self) -> bytes | None:
        """The cipher's name."""
        return first(self.tlvs, CIPHER)


def first(tlvs: tuple[tuple[int, bytes], ...], kind: int) -> bytes | None:
    """Return the first value of a type, or None."""
    return next((value for its, value in tlvs if its == kind), None)


def read(fields: Fields) -> ProxySsl:
    """Read the value of the TLV.

    Raises:
        ParseError: it is malformed.
    """
    client = fields.number(1, "the client's flags of the TLS")
    verify = fields.number(4, "the result of the certificate's check")
    found = []
    while fields.at < fields.end:
        kind = fields.number(1, "the type of a TLV of the TLS")
        found.append((kind, fields.vector(2, f"TLV {kind} of the TLS").left))
    shown = bool(client & (_CERT_CONN | _CERT_SESS))
    return ProxySsl(bool(client & _BY_TLS), shown, shown and not verify, tuple(found))
