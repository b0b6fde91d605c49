"""What engines are made of, for their authors; it may change in a minor version.

In the order to read:

- ``states``: the states of a connection, and the reasons for not reading from it;
- ``dispatch``: a protocol is called, and an error in a callback ends its connection;
- ``transport_socket``: what ``get_extra_info("socket")`` returns;
- ``known``: what can be asked of a connection to its end;
- ``transport``: the rules of one connection, without the bytes;
- ``witnesses``: who hears of its end beside its protocol, and says how fast it may be;
- ``verbs``: what every transport refuses in the same words, and the verbs' beginnings;
- ``rates``: how much a connection may receive now, and whose turn it is;
- ``relay``, ``joining``, ``searching``: the rules of two that are joined, and what brings the
  second; a first reader skips them, as well as
- ``outgoing``, ``checking``, ``first_bytes``: who connects by an engine, the checks of a pool's
  upstreams, and whose first byte is waited for; ``proxying``: the PROXY header that they get;
- ``rounds``: many connections are looked at in turn, by one timer;
- ``sockets``: connections are accepted, taken over, prepared, and why accept(2) fails;
- ``opening``, ``passed``: listeners are opened, or were by a supervisor, and closed; the server's;
- ``listener``: a listener of a loop: when it accepts, and when it rests;
- ``waker``, ``calls``, ``timers``: a loop is woken, and told what to call, now or later;
- ``answers``, ``lookups``, ``connecting``: from a name to a connection;
- ``draining``: nobody new, who is here may finish, and the rest is ended, step by step;
- ``cells``, ``balance``: counters that several processes share, and who of them takes a client;
- ``loop``: an engine of one thread and one loop, whoever waits for the events in it;
- ``turning``: such a loop goes round by itself, or as a guest in somebody else's loop;
- ``signals``, ``logs``: SIGINT, SIGTERM and others ask for something, and what two of them ask
  for, the logs to be opened again; the server's;
- ``channel``: what a process and its starter say to each other, listening sockets among it;
- ``notify``: what is said to the supervisor that started the process, systemd or another;
- ``processes``, ``first``: who a process's children are; and the first one of a container, which
  waits for those whose parents are gone.
"""
