"""One file for a relay: what it serves where, and how; read, checked as a whole, and applied.

- ``lines``: on which line each key stands;
- ``kinds``: what may stand behind a key;
- ``schema``: which keys there are;
- ``document``: the file as it is read, or all that is wrong with it;
- ``rings``: which listeners lead to which pools, and which of them back;
- ``making``: a table becomes a pool, a guard or a router;
- ``served``: all that the file means, which may change in place;
- ``reloading``: the file is read again while it is served;
- ``writing``: the other way round: a file that says what was meant.
"""

from muxcore.config.document import ConfigError, Document, read
from muxcore.config.reloading import Reloading, contents
from muxcore.config.served import Served
from muxcore.config.writing import written

__all__ = ["ConfigError", "Document", "Reloading", "Served", "contents", "read", "written"]
