"""A relay for people to use: clients on one side, one of several upstreams on the other."""

from muxcore.services.relay.access_log import Record
from muxcore.services.relay.relay import Relay
from muxcore.services.relay.upstreams import UpstreamStats

__all__ = ["Record", "Relay", "UpstreamStats"]
