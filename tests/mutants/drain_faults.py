"""The planted faults of a drain: whom it waits for, whom it ends, and who hears of it."""

from __future__ import annotations

from .faults import LOOP, PROCESS, READINESS, STREAM, Mutant

DRAINING = "parts/draining.py"
LIFE = "_life.py"
_LAST = """    engine.stopped += engine.stop_clients(engine.clients())
    engine.on_phase("over")
    engine.stop()
"""
_NOBODY_NEW = """        self.close_listeners()
        self.retiring = True
"""

DRAIN_MUTANTS = [
    Mutant(
        "a drain is a stop",
        "PureSelect",
        ((LOOP, "self.call_from_thread(self._begin_drain, timeout)", "self.stop()"),),
        ("a_client_goes_on_in_a_drain_and_its_end_is_the_drains",),
    ),
    Mutant(
        "a drain goes on accepting",
        "PureEpollLevel",
        ((LOOP, _NOBODY_NEW, "        self.retiring = True\n"),),
        ("clients_of_a_verb_go_on_in_a_drain",),
    ),
    Mutant(
        "a drain does not wait for the balancer",
        "PureEpollLevel",
        ((DRAINING, "    if limits.drain_delay:\n", "    if False:\n"),),
        ("a_drain_accepts_until_its_delay_is_over_and_is_not_ready",),
    ),
    Mutant(
        "a drain never ends who does not finish",
        "PureSelect",
        ((DRAINING, _LAST, ""),),
        ("who_has_not_finished_in_time_is_stopped_and_the_status_says_so",),
    ),
    Mutant(
        "a drain that stopped somebody was complete",
        "PureEpollEdge",
        ((LOOP, "self._clean = self._clean and not ended", "pass"),),
        ("who_has_not_finished_in_time_is_stopped_and_the_status_says_so",),
    ),
    Mutant(
        "a spread ends all at once",
        "PureSelect",
        ((DRAINING, "math.ceil(here * pause / wait)", "here"),),
        ("a_spread_ends_one_after_the_other",),
    ),
    Mutant(
        "a spread waits for its first end",
        "PureProcess",
        ((DRAINING, "math.ceil(here * pause / wait)", "0"),),
        ("a_spread_ends_one_after_the_other",),
    ),
    Mutant(
        "who comes in the delay does not hear of the drain",
        "PureEpollLevel",
        ((STREAM, "        if self._engine.draining:\n", "        if False:\n"),),
        ("each_connection_hears_once_that_a_drain_begins",),
    ),
    Mutant(
        "a drain is told under a verb",
        "PureSelect",
        (
            (
                "parts/verbs.py",
                "if self._verb is not None or self.is_closing() or not handles(",
                "if self.is_closing() or not handles(",
            ),
        ),
        ("a_drain_is_not_told_under_a_verb",),
    ),
    Mutant(
        "idle clients are waited for all the same",
        "PureEpollLevel",
        ((LOOP, "if before.get(transport) == moved and", "if False and"),),
        ("an_idle_client_is_ended_where_that_is_asked_for",),
    ),
    Mutant(
        "who reads slowly is idle",
        "PureSelect",
        (
            (
                LOOP,
                "if transport.get_write_buffer_size() or transport._waits_for_rate():",
                "if transport._waits_for_rate():",
            ),
        ),
        ("what_is_not_sent_yet_makes_nobody_idle",),
    ),
    Mutant(
        "a protocol's answer to draining is dropped",
        "PureEpollEdge",
        (("parts/verbs.py", "self._engine.may_rest.add(self)", "pass"),),
        ("a_protocol_may_ask_not_to_be_taken_for_idle",),
    ),
    Mutant(
        "a child's answer to draining is dropped",
        "PureProcess",
        (("pure/child.py", "self._client in self._engine.may_rest", "False"),),
        ("a_protocol_may_ask_not_to_be_taken_for_idle",),
    ),
    Mutant(
        "a drain waits for what the program has opened",
        "PureSelect",
        ((READINESS, "        self._finish_drain()\n", ""),),
        ("a_drain_does_not_wait_for_what_the_program_opened",),
    ),
    Mutant(
        "a pair that a stop cuts was closed",
        "PureEpollLevel",
        (
            (
                "services/relay/access_log.py",
                '"stopped" if transport._engine.ending or not joined',
                '"stopped" if not joined',
            ),
        ),
        ("a_pair_goes_on_in_a_drain_and_is_logged_as_stopped_at_its_end",),
    ),
    Mutant(
        "a child that waits for bytes does not hear of a drain",
        "PureProcess",
        (("pure/child.py", "            transport.wake()\n", "            pass\n"),),
        ("a_child_that_waits_for_bytes_hears_of_a_drain",),
    ),
    Mutant(
        "a child that asks for a stop gets a drain",
        "PureProcess",
        ((PROCESS, "            self._counters.phase = STOPPING\n", "            pass\n"),),
        ("a_callback_may_stop_a_server_that_waits_for_others",),
    ),
    Mutant(
        "a reload of all processes ends the children",
        "PureProcess",
        ((PROCESS, "        leave_to_parent()\n", ""),),
        ("a_signal_that_is_for_the_parent_does_not_end_its_children",),
    ),
    Mutant(
        "a hangup ends the server",
        "PureEpollLevel",
        (("parts/signals.py", "for number in self._others:", "for number in ():"),),
        ("hangups_and_user_signals_disturb_nobody",),
    ),
    Mutant(
        "a server that drains is ready",
        "PureSelect",
        ((LIFE, "self._phases.asked or engine.draining or engine.ending", "engine.ending"),),
        ("a_drain_accepts_until_its_delay_is_over_and_is_not_ready",),
    ),
    Mutant(
        "a sigterm to each process ends the children",
        "PureProcess",
        (
            (
                "pure/child.py",
                "            self._drain()\n\n    def _drain",
                "            self.stop()\n\n    def _drain",
            ),
        ),
        ("a_sigterm_to_each_process_is_a_drain_as_one_to_the_parent_is",),
    ),
    Mutant(
        "a child goes on for what it has opened",
        "PureProcess",
        (("pure/child.py", "                self._close_others()\n", "                pass\n"),),
        ("a_drain_does_not_wait_for_what_the_program_opened",),
    ),
]
