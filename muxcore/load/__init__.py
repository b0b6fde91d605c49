"""A load generator that does not lie: every byte is compared, every message timed from when it was due."""

from muxcore.load.config import LoadConfig, parse_sizes
from muxcore.load.generator import Generator, LoadError, Phase, generator, numeric, window
from muxcore.load.histogram import Histogram
from muxcore.load.result import LoadResult

__all__ = [
    "Generator",
    "Histogram",
    "LoadConfig",
    "LoadError",
    "LoadResult",
    "Phase",
    "generator",
    "numeric",
    "parse_sizes",
    "window",
]
