"""RFC 863: whatever arrives is dropped, until the peer ends."""

from __future__ import annotations

from typing import ClassVar

from muxcore.protocol import Verb


class Discard:
    """Drops everything; the engine moves the bytes. Subclasses as with ``Echo``."""

    verb: ClassVar[Verb] = Verb.DISCARD
