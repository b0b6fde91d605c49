"""The Python face of the C load generator: no byte and no message crosses into Python."""

from __future__ import annotations

import importlib
import os
from collections import Counter
from typing import Any

from muxcore.load import telling
from muxcore.load.config import LoadConfig
from muxcore.load.generator import LoadError, Phase
from muxcore.load.histogram import Histogram
from muxcore.load.result import ERRORS, LoadResult

# A module without type information, which is not there in a pure build.
_core: Any = importlib.import_module("muxcore.native._core")


class NativeGenerator:
    """See :class:`muxcore.load.generator.Generator`."""

    kind = "native"

    def __init__(self, config: LoadConfig) -> None:
        """Set up; nothing is connected yet.

        Raises:
            LoadError: memory or descriptors ran out; the message names the call.
        """
        failed = _core.ffi.new("const char **")
        # cffi keeps only what a name holds alive: these texts must outlive the call.
        address = config.address
        host = _core.ffi.new("char[]", (address.path or address.host).encode())
        made = _c_config(config, host)
        texts = []
        for name in ("request", "reply", "until", "greeting"):
            text = getattr(config, name)
            texts.append(_core.ffi.new("unsigned char[]", text))
            setattr(made, name, texts[-1])
            setattr(made, f"{name}_len", len(text))
        self._config = config
        self._load: Any = _core.lib.mux_load_new(made, failed)
        if not self._load:
            call = _core.ffi.string(failed[0]).decode()
            raise LoadError(f"load generator: {call}: {os.strerror(_core.ffi.errno)}")

    def begin(self, warmup: float, seconds: float) -> None:
        _core.lib.mux_load_begin(self._open(), round(warmup * 1e9), round(seconds * 1e9))

    def run(self, seconds: float) -> Phase:
        phase = _core.lib.mux_load_run(self._open(), round(seconds * 1e9))
        if phase < 0:
            raise LoadError(f"load generator: epoll_wait: {os.strerror(_core.ffi.errno)}")
        return Phase(phase)

    def stop(self) -> None:
        _core.lib.mux_load_stop(self._open())

    def result(self) -> LoadResult:
        totals = _core.lib.mux_load_result(self._open())
        errors = Counter({kind: n for kind, n in zip(ERRORS, totals.errors, strict=True) if n})
        return LoadResult(
            generator=self.kind,
            seconds=totals.window / 1e9,
            sent=totals.sent,
            received=totals.received,
            answered=totals.answered,
            lost=totals.lost,
            overdue=totals.overdue,
            bytes_out=totals.bytes_out,
            bytes_in=totals.bytes_in,
            opened=totals.opened,
            open=totals.open,
            errors=errors,
            first_error=_first_error(self._config, totals),
            latency=_histogram(_core.lib.mux_load_latency(self._load)),
            lag=_histogram(_core.lib.mux_load_lag(self._load)),
        )

    def close(self) -> None:
        if self._load:
            _core.lib.mux_load_free(self._load)
            self._load = None

    def _open(self) -> Any:
        if not self._load:
            raise LoadError("load generator: it is closed")
        return self._load


def _c_config(config: LoadConfig, host: Any) -> Any:
    mix = config.cumulative()
    made = _core.ffi.new("mux_load_config *")
    made.host = host
    made.port = -1 if config.address.path else config.address.port
    churn = config.workload == "churn"
    made.workload = _core.lib.MUX_LOAD_CHURN if churn else _core.lib.MUX_LOAD_ECHO
    for name in _SAME:
        setattr(made, name, getattr(config, name))
    if config.http:
        made.http = _core.lib.MUX_LOAD_HTTP_HEAD if config.bodiless else _core.lib.MUX_LOAD_HTTP
    made.mix_len = len(mix)
    for i, (size, upto) in enumerate(mix):
        made.mix_size[i] = size
        made.mix_upto[i] = upto
    return made


def _histogram(hist: Any) -> Histogram:
    return Histogram(_core.ffi.unpack(hist.count, _core.lib.MUX_HIST_BUCKETS), hist.max)


def _first_error(config: LoadConfig, totals: Any) -> str:
    seen = bytes(_core.ffi.buffer(totals.seen, totals.seen_len))
    errors = dict(zip(ERRORS, totals.errors, strict=True))
    if errors["corrupt"]:
        return telling.wrong_bytes(
            config,
            totals.bad_connection,
            totals.bad_offset,
            totals.bad_expected,
            totals.bad_got,
            seen,
            bool(totals.bad_from_the_start),
        )
    if errors["status"]:
        return telling.refusal(seen)
    if totals.first_errno:
        return os.strerror(totals.first_errno)
    return "the server closed the connection" if errors["closed"] else ""


_SAME = (
    "connections", "idle", "depth", "sources", "poisson", "rate", "ramp", "connect_timeout",
    "reply_timeout", "spin", "seed", "messages",
)  # fmt: skip
