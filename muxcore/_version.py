"""The one place where the version stands; the build reads it without importing muxcore."""

__version__ = "0.1.0.dev0"
