"""A program that is replaced while it serves: its successor has its listening sockets first.

::

    the old one:  serves ── SIGUSR2 ── serves on ─────────────── drains ──► it ends
                               │ starts, and its sockets           ▲
                               ▼                                   │ "ready"
    the new one:            imports ── opens what it listens on ───┴── serves

In the order to read:

- ``program``: how this process was started, so that it can be once more;
- ``handed``: what this process listens on, as it is handed over;
- ``predecessor``: who has started this process to take over from it, and what that listened on;
- ``successor``: who is started to take over from this process;
- ``pidfile``: the file that names who serves.
"""
