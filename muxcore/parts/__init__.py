"""What engines are made of, for their authors; it may change in a minor version.

In the order to read, each file after those that it stands on:

- ``states``: the states of a connection, and the reasons for not reading from it;
- ``dispatch``: a protocol is called, and an error in a callback ends its connection;
- ``transport_socket``: what ``get_extra_info("socket")`` returns;
- ``transport``: the rules of one connection, without the bytes;
- ``relay``, ``joining``: those of two that are joined; a first reader skips them;
- ``sockets``: listeners are opened, connections accepted, and why accept(2) fails;
- ``listener``: a listener of a loop: when it accepts, and when it rests;
- ``waker``, ``calls``, ``timers``: a loop is woken, and told what to call, now or later;
- ``lookups``, ``connecting``: from a name to a connection;
- ``loop``: an engine of one thread and one loop, whoever waits for the events in it;
- ``signals``: SIGINT and SIGTERM ask for a stop; the server's.
"""
