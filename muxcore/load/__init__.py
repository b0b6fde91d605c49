"""A load generator that compares every byte and times messages from when they were due."""

from muxcore.load.config import LoadConfig, parse_sizes
from muxcore.load.generator import Generator, LoadError, Phase, generator, numeric, window
from muxcore.load.histogram import Histogram
from muxcore.load.result import LoadResult, merge

__all__ = [
    "Generator",
    "Histogram",
    "LoadConfig",
    "LoadError",
    "LoadResult",
    "Phase",
    "generator",
    "merge",
    "numeric",
    "parse_sizes",
    "window",
]

# What may change in any version: docs/stability.md. The command and its JSON may not.
_EXPERIMENTAL = tuple(__all__)
