"""muxcore: TCP servers under three concurrency models; Python decides, C moves the bytes."""

from muxcore import _moved
from muxcore._serve import serve
from muxcore._version import __version__
from muxcore.address import Address
from muxcore.errors import (
    AddressError,
    BindError,
    BufferLimitExceeded,
    CapabilityMissing,
    CloseTimeout,
    ConnectionClosed,
    ConnectTimeout,
    EndOfStream,
    EngineUnavailable,
    FirstByteTimeout,
    HalfCloseTimeout,
    IdleTimeout,
    MuxcoreError,
    NoUpstream,
    PairCut,
    ParseError,
    PidfileError,
    ServiceError,
    Stopped,
    TooLong,
    UnknownEngine,
    WorkerFailed,
)
from muxcore.limits import Limits
from muxcore.pool import Check, Pool, Upstream, UpstreamStats
from muxcore.protocol import BufferedProtocol, StreamProtocol, Transport, Verb
from muxcore.rate import Rate
from muxcore.registry import EngineInfo, engine, engines
from muxcore.server import Server
from muxcore.services.behind_proxy import BehindProxy
from muxcore.services.discard import Discard
from muxcore.services.echo import Echo
from muxcore.services.guard import Guard
from muxcore.services.relay import Relay
from muxcore.services.router import First, Route, Router
from muxcore.stats import Stats

__all__ = [
    "Address",
    "AddressError",
    "BehindProxy",
    "BindError",
    "BufferLimitExceeded",
    "BufferedProtocol",
    "CapabilityMissing",
    "Check",
    "CloseTimeout",
    "ConnectTimeout",
    "ConnectionClosed",
    "Discard",
    "Echo",
    "EndOfStream",
    "EngineInfo",
    "EngineUnavailable",
    "First",
    "FirstByteTimeout",
    "Guard",
    "HalfCloseTimeout",
    "IdleTimeout",
    "Limits",
    "MuxcoreError",
    "NoUpstream",
    "PairCut",
    "ParseError",
    "PidfileError",
    "Pool",
    "Rate",
    "Relay",
    "Route",
    "Router",
    "Server",
    "ServiceError",
    "Stats",
    "Stopped",
    "StreamProtocol",
    "TooLong",
    "Transport",
    "UnknownEngine",
    "Upstream",
    "UpstreamStats",
    "Verb",
    "WorkerFailed",
    "__version__",
    "engine",
    "engines",
    "serve",
]

_moved.install()
