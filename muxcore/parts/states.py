"""The states of a connection, and the reasons for not delivering what it receives."""

from __future__ import annotations

OPEN, CLOSING, LOST = range(3)

HOLD_USER = 1  # pause_reading()
HOLD_BACKLOG = 2  # the write buffer is above high water, and nobody else stops the peer
HOLD_EOF = 4  # the peer has sent EOF
HOLD_CLOSING = 8  # close() was called, or the connection is lost: nothing is delivered any more
HOLD_CONNECT = 16  # relay() waits for the other side
HOLD_RATE = 64  # one of its rates is used up: it waits for its turn
HOLD_FIRST = 32  # with HOLD_EOF, under relay(): the peer ended before the other side's did
