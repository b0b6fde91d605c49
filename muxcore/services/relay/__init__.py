"""A relay for people to use: clients on one side, one of several upstreams on the other."""

from muxcore.pool import UpstreamStats
from muxcore.services.relay.access_log import AccessLog, Record
from muxcore.services.relay.relay import Relay

__all__ = ["AccessLog", "Record", "Relay", "UpstreamStats"]
