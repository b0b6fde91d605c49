"""What only engines of the process model have to survive."""

from muxcore.testing import ProcessSuite, each_engine

globals().update(each_engine(ProcessSuite, model="process"))
