"""The contract suite on every engine that is available here."""

from muxcore.testing import ContractSuite, each_engine

globals().update(each_engine(ContractSuite))
