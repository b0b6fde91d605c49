"""Decisions that a file names."""

from __future__ import annotations

from muxcore.services.router.first import First


def by_word(first: First) -> str:
    """Send a client to the pool that it names."""
    return first.data.decode().strip()


async def by_word_later(first: First) -> str:
    return by_word(first)
