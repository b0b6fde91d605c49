"""A service by several processes: a parent that owns the listening sockets, and its workers.

In the order to read:

- ``bootstrap``, ``fresh``: a process is started fresh, and hears of its starter by a channel;
- ``task``: what a worker is to do, as one can be told it;
- ``worker``: the program of a worker;
- ``replacing``: when a worker that died is replaced;
- ``places``: the listening sockets, which stay when a worker goes;
- ``ending``: when the end of the parent goes on, phase after phase;
- ``crew``, ``parent``: the processes of the parent, and its loop, which serves nobody;
- ``engine``: all of it as an engine, so that ``Server`` has workers as it has any engine.
"""
