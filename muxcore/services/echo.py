"""RFC 862: whatever arrives is sent back, until the peer ends."""

from __future__ import annotations

from typing import ClassVar

from muxcore.protocol import Verb


class Echo:
    """Sends everything back; the engine moves the bytes.

    A subclass may add ``connection_made`` and ``connection_lost``, to hear of clients coming and
    going; data callbacks of a subclass are never called.
    """

    verb: ClassVar[Verb] = Verb.ECHO
