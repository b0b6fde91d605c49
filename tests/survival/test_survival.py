"""The survival suite on every engine that is available here."""

from muxcore.testing import SurvivalSuite, each_engine

globals().update(each_engine(SurvivalSuite))
