"""The planted faults: what classic servers get wrong, each as a small change of one of our engines.

A mutant names the scenarios that are expected to catch it; one of them has to.
"""

from __future__ import annotations

from dataclasses import dataclass

LISTENER = "parts/listener.py"
LOOP = "parts/loop.py"
DEADLINES = "pure/deadlines.py"
READINESS = "pure/readiness.py"
STREAM = "pure/stream_transport.py"
TRANSPORT = "parts/transport.py"
RELAY = "parts/relay.py"
EPOLL = "pure/epoll_engine.py"
PROCESS = "pure/process_engine.py"
CHILDREN = "pure/children.py"
FORKING = "pure/forking_loop.py"


_HELD = "        if self._hold and (self._hold != HOLD_CLOSING or self._state == LOST):\n"


@dataclass(frozen=True)
class Mutant:
    """One planted fault.

    Attributes:
        name: what is wrong.
        suite: the class of the suites that is to catch it.
        changes: (file, text that stands there once, what stands there instead).
        killers: the scenarios that should fail.
    """

    name: str
    suite: str
    changes: tuple[tuple[str, str, str], ...]
    killers: tuple[str, ...]


MUTANTS = [
    Mutant(
        "event == EPOLLIN",
        "PureEpollLevel",
        (
            (
                STREAM,
                "            if events != WRITE:\n                self.read(events",
                "            if False:\n                self.read(events",
            ),
        ),
        ("a_reset_reaches_connection_lost_as_an_error",),
    ),
    Mutant(
        "send for sendall",  # a blocking send ends early only where a signal interrupts it
        "PureProcess",
        (("pure/blocking_transport.py", "view = view[sent:]", "break"),),
        ("a_signal_sends_what_is_queued_first",),
    ),
    Mutant(
        "a partial write forgets the rest",
        "PureSelect",
        ((STREAM, "if sent < 0 or sent == len(data):", "if sent:"),),
        ("a_large_write_arrives_whole_at_a_slow_reader",),
    ),
    Mutant(
        "blocking client sockets",
        "PureEpollLevel",
        (
            (
                "parts/sockets.py",
                "sock.setblocking(False)\n    if sock",
                "sock.setblocking(True)\n    if sock",
            ),
            (STREAM, "from socket import MSG_DONTWAIT", "MSG_DONTWAIT = 0"),
        ),
        ("a_client_that_does_not_read_delays_nobody",),
    ),
    Mutant(
        "children are not waited for",
        "PureProcess",
        ((CHILDREN, "for pid in list(self._slots):", "for pid in []:"),),
        ("children_that_are_killed_leave_no_zombie_and_a_serving_parent",),
    ),
    Mutant(
        "waiting for any child takes somebody else's status",
        "PureProcess",
        ((CHILDREN, "os.waitpid(pid, os.WNOHANG)", "os.waitpid(-1, os.WNOHANG)"),),
        ("the_status_of_somebody_elses_child_is_left_to_him",),
    ),
    Mutant(
        "the parent keeps the client's descriptor",
        "PureProcess",
        (
            (
                FORKING,
                "                with accepted[0]:",
                "                os.dup(accepted[0].fileno())\n                with accepted[0]:",
            ),
        ),
        ("the_parent_keeps_no_clients_socket", "eof_at_once_is_heard"),
    ),
    Mutant(
        "the child keeps the listener",
        "PureProcess",
        (
            (
                PROCESS,
                "for listener, _ in self._listeners.values():\n            listener.close()",
                "pass",
            ),
        ),
        ("a_child_keeps_its_clients_socket_and_no_other",),
    ),
    Mutant(
        "a forgotten unregister",
        "PureEpollLevel",
        ((EPOLL, "self._epoll.unregister(fd)", "pass"),),
        ("a_child_that_user_code_forked_does_not_keep_the_loop_busy",),
    ),
    Mutant(
        "no FD_SETSIZE check",
        "PureSelect",
        (("pure/select_engine.py", "if fd < FD_SETSIZE:", "if True:"),),
        ("descriptors_beyond_what_select_can_watch_are_refused_or_served",),
    ),
    Mutant(
        "a stale event reaches a connection that ended in the same turn",
        "PureEpollLevel",
        (
            (
                READINESS,
                "for fd, events in self._poller.wait(timeout):",
                (
                    "for handler, events in "
                    "[(handlers.get(fd), e) for fd, e in self._poller.wait(timeout)]:"
                ),
            ),
            (READINESS, "            handler = handlers.get(fd)\n", ""),
            (STREAM, _HELD, "        if False:\n"),
            (STREAM, "        if self._state != OPEN:\n            return size  #", "        #"),
        ),
        ("aborting_another_connection_takes_its_event_of_the_same_turn",),
    ),
    Mutant(
        "a connection that was paused in the same turn is read",
        "PureSelect",
        ((STREAM, _HELD, "        if False:\n"),),
        ("pausing_another_connection_takes_its_data_of_the_same_turn",),
    ),
    Mutant(
        "an exception in a callback is logged and the connection lives on",
        "PureEpollLevel",
        (("parts/dispatch.py", "    transport._fail(exc)", "    pass"),),
        ("an_exception_in_data_received_closes_that_connection_only",),
    ),
    Mutant(
        "a protocol without pause_writing is not protected",
        "PureEpollLevel",
        (
            (
                TRANSPORT,
                "if self._verb is not None or not handles(",
                "if self._verb and not handles(",
            ),
        ),
        ("a_protocol_without_pause_writing_is_protected",),
    ),
    Mutant(
        "protection lifts the protocol's own pause",
        "PureSelect",
        (
            (
                TRANSPORT,
                "feeder._clear_hold(HOLD_BACKLOG)",
                "feeder._clear_hold(HOLD_BACKLOG | HOLD_USER)",
            ),
        ),
        ("protection_does_not_lift_the_protocols_own_pause",),
    ),
    Mutant(
        "pause_writing at the mark instead of above it",
        "PureEpollLevel",
        ((TRANSPORT, "if size > self._high and", "if size >= self._high and"),),
        ("pause_comes_strictly_above_high_water",),
    ),
    Mutant(
        "resume_writing before low water",
        "PureEpollLevel",
        ((TRANSPORT, "size <= self._low:", "size <= self._high:"),),
        ("resume_comes_at_low_water",),
    ),
    Mutant(
        "close drops what is queued",
        "PureSelect",
        (
            (
                TRANSPORT,
                "if self._state == CLOSING and not self.get_write_buffer_size():",
                "if self._state == CLOSING:",
            ),
        ),
        ("close_sends_what_is_queued_first",),
    ),
    Mutant(
        "EOF is sent before what is queued",
        "PureEpollLevel",
        (
            (
                TRANSPORT,
                "        if not self.get_write_buffer_size():\n            self._shutdown_write()",
                "        if True:\n            self._shutdown_write()",
            ),
        ),
        ("write_eof_comes_after_all_that_was_written",),
    ),
    Mutant(
        "connection_lost comes twice",
        "PureEpollLevel",
        (
            (
                TRANSPORT,
                "        if self._state != LOST:\n            if isinstance(exc",
                "        if True:\n            if isinstance(exc",
            ),
            (READINESS, "        if transport not in self._transports:\n            return\n", ""),
            (STREAM, "self._protocol = self._on_data = None  #", "self._on_data = None  #"),
        ),
        ("closing_twice_and_aborting_after_is_one_end",),
    ),
    Mutant(
        "eof_received may not keep the connection open",
        "PureSelect",
        (
            (
                TRANSPORT,
                'or not dispatch.call(self, self._protocol, "eof_received"):',
                'or dispatch.call(self, self._protocol, "eof_received") != 0:',
            ),
        ),
        ("after_eof_a_connection_kept_open_stays_open",),
    ),
    Mutant(
        "an accept that failed is tried again at once",
        "PureEpollLevel",
        (
            (
                LISTENER,
                "        engine.alarm(engine.limits.accept_pause, self._rested)",
                "        self._rested()",
            ),
        ),
        ("running_out_of_descriptors_is_survived_without_haste",),
    ),
    Mutant(
        "the interest in writing stays after all is sent",
        "PureEpollLevel",
        (
            (
                STREAM,
                (
                    "        if self._state != LOST and not queue.size:\n"
                    "            self._update_interest()"
                ),
                "",
            ),
        ),
        ("a_client_that_took_a_long_answer_costs_no_cpu_afterwards",),
    ),
    Mutant(
        "there is no cap on connections",
        "PureEpollLevel",
        ((LISTENER, "if engine.counters.open >= engine.limits.connections:", "if False:"),),
        ("at_the_cap_of_connections_clients_wait_for_their_turn",),
    ),
    Mutant(
        "a call from another thread wakes nobody",
        "PureSelect",
        (
            (
                LOOP,
                "self._calls.add(call, args)\n        self._waker.wake()",
                "self._calls.add(call, args)",
            ),
        ),
        ("calls_from_another_thread_run_in_the_engines_thread_and_in_order",),
    ),
    Mutant(
        "a stop has no end",
        "PureEpollLevel",
        ((LOOP, "            self.alarm(self.limits.stop_timeout, self.abort)\n", ""),),
        ("the_drain_is_bounded_and_its_result_told",),
    ),
    Mutant(
        "a silent client stays for ever",
        "PureSelect",
        (
            (
                DEADLINES,
                "        if left <= 0:\n            self._idle(limit)",
                "        if left <= 0:\n            pass",
            ),
        ),
        ("a_silent_client_is_ended_by_the_idle_deadline",),
    ),
    Mutant(
        "a close leaves unread input to the kernel, which sends a reset",
        "PureEpollLevel",
        ((STREAM, "if self._unread and self._engine", "if False and self._engine"),),
        ("an_answer_arrives_although_the_question_was_not_read_to_its_end",),
    ),
    Mutant(
        "a forked child unregisters what its parent serves",
        "PureEpollLevel",
        (
            (READINESS, "            self.abandon()\n            return\n", "            pass\n"),
            (EPOLL, "is None or _forks.current is not self._process:", "is None:"),
        ),
        ("a_child_that_a_callback_forked_may_end_by_sys_exit",),
    ),
    Mutant(
        "those who do not read hear of no reset",
        "PureEpollLevel",
        (
            (
                EPOLL,
                "        known = self._masks.get(fd)\n",
                (
                    "        if not mask:\n            return self.forget(fd)\n"
                    "        known = self._masks.get(fd)\n"
                ),
            ),
        ),
        ("a_reset_is_heard_while_reading_is_paused",),
    ),
    Mutant(
        "a verb that begins above high water still watches what it does not read",
        "PureEpollLevel",
        (
            (
                TRANSPORT,
                "self._set_hold(HOLD_BACKLOG)\n        self._verb_begun",
                "self._hold |= HOLD_BACKLOG\n        self._verb_begun",
            ),
        ),
        ("a_verb_above_high_water_costs_no_cpu_while_nobody_reads",),
    ),
    Mutant(
        "a write from another thread goes through",
        "PureSelect",
        ((TRANSPORT, 'self._engine.refuse_thread("write()")', "pass"),),
        ("a_call_from_another_thread_is_refused_and_changes_nothing",),
    ),
    Mutant(
        "a closed connection waits for its peer for ever",
        "PureSelect",
        ((STREAM, "                self._watch_close()", "                pass"),),
        ("a_closed_connection_whose_peer_takes_nothing_is_ended_by_a_reset",),
    ),
]
