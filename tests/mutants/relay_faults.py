"""The planted faults of connecting and relaying: what relays get wrong."""

from __future__ import annotations

from .faults import DEADLINES, RELAY, TRANSPORT, Mutant

VERBS = "parts/verbs.py"
CONNECTING = "parts/connecting.py"
SEARCHING = "parts/searching.py"
_NEVER_NEXT = "        if True:\n            self._give_up"
_CLOSE = "    def close(self) -> None:\n        "
_ORPHANED = "    def _orphaned(self, exc: BaseException | None) -> None:\n        "

RELAY_MUTANTS = [
    Mutant(
        "a half-close loses the tail that is still queued",
        "PureEpollLevel",
        (
            (
                RELAY,
                "            if not peer.get_write_buffer_size():\n                peer._shutdown",
                "            if True:\n                peer._shutdown",
            ),
        ),
        ("an_eof_comes_after_the_whole_of_what_was_sent",),
    ),
    Mutant(
        "the second EOF loses the tail of the other direction",
        "PureSelect",
        (
            (
                RELAY,
                "all(side._eof_written and not side.get_write_buffer_size() for",
                "all(side._eof_written for",
            ),
        ),
        ("the_tail_of_a_direction_arrives_although_the_other_has_ended",),
    ),
    Mutant(
        "an EOF ends both directions",
        "PureEpollEdge",
        (
            (
                TRANSPORT,
                "if self._verb is Verb.RELAY:\n            self._pass_on_eof()",
                "if self._verb is Verb.RELAY:\n            self.close()",
            ),
        ),
        ("the_clients_half_close_leaves_the_other_direction_open",),
    ),
    Mutant(
        "an EOF is not passed on",
        "PureSelect",
        (
            (
                TRANSPORT,
                "if self._verb is Verb.RELAY:\n            self._pass_on_eof()",
                "if self._verb is Verb.RELAY:\n            pass",
            ),
        ),
        ("the_upstreams_half_close_leaves_the_other_direction_open",),
    ),
    Mutant(
        "an EOF that was heard before the join is forgotten",
        "PureEpollLevel",
        (
            (
                RELAY,
                "if side._hold & HOLD_EOF:  # it was heard before: pass",
                "if False:  # it was heard before: pass",
            ),
        ),
        ("an_eof_heard_before_is_passed_on",),
    ),
    Mutant(
        "a reset becomes an EOF on the other side",
        "PureSelect",
        (
            (
                TRANSPORT,
                "if (sock := self._socket()) is not None:",
                "if (sock := None) is not None:",
            ),
        ),
        ("a_reset_by_the_client_passes_to_the_upstream",),
    ),
    Mutant(
        "which side failed cannot be told",
        "PureEpollLevel",
        ((VERBS, "            exc = passed_on(exc)\n", ""),),
        ("a_reset_of_one_client_is_heard_on_both_sides",),
    ),
    Mutant(
        "a backlog does not hold up who causes it",
        "PureEpollLevel",
        (
            (
                TRANSPORT,
                "self._partner()._set_hold(HOLD_BACKLOG)",
                "self._set_hold(HOLD_BACKLOG)",
            ),
        ),
        ("an_upstream_that_reads_slowly_holds_up_the_client_and_loses_nothing",),
    ),
    Mutant(
        "a backlog from before the join is forgotten",
        "PureEpollEdge",
        ((RELAY, "            if other._choked:\n", "            if False:\n"),),
        ("a_backlog_from_before_the_join_holds_up_the_other_side",),
    ),
    Mutant(
        "the first bytes come after the stream's",
        "PureSelect",
        (
            (
                RELAY,
                "                side._put(head)\n",
                "                self._engine.call_later(0.1, side._put, head)\n",
            ),
        ),
        ("first_and_back_go_before_all_others",),
    ),
    Mutant(
        "close drops what the other side is to get",
        "PureEpollLevel",
        ((TRANSPORT, "            self._peer.close()\n", "            self._peer.abort()\n"),),
        ("close_sends_first_what_is_queued_for_the_other_side",),
    ),
    Mutant(
        "abort leaves the other side open",
        "PureSelect",
        (
            (VERBS, "if exc is not None or not self.is_closing():", "if exc is not None:"),
            (VERBS, "            peer._fail(None)\n", "            pass\n"),
        ),
        ("either_of_two_clients_may_be_closed_or_aborted",),
    ),
    Mutant(
        "each side of a relay has an idle deadline of its own",
        "PureEpollLevel",
        ((DEADLINES, "other = self._partner()._moved_at", "other = self._moved_at"),),
        ("a_relay_whose_reader_is_slow_is_not_idle",),
    ),
    Mutant(
        "the second direction may go on for ever",
        "PureSelect",
        (
            (
                DEADLINES,
                "        if limit is not None:\n            self._alarm(limit, self._half_over)",
                "        if False:\n            pass",
            ),
        ),
        ("the_second_direction_has_a_deadline_once_the_first_has_ended",),
    ),
    Mutant(
        "a client that is closed goes on being connected",
        "PureEpollLevel",
        (
            ("parts/joining.py", _CLOSE + "self._cancel()", _CLOSE + "pass"),
            ("parts/joining.py", _ORPHANED + "self._cancel()", _ORPHANED + "pass"),
        ),
        ("close_while_it_connects_ends_that_too",),
    ),
    Mutant(
        "what is cancelled keeps its descriptor",
        "PureSelect",
        ((CONNECTING, "            attempt.cancel()\n", "            pass\n"),),
        ("a_cancelled_connection_calls_nobody", "a_connection_has_a_deadline"),
    ),
    Mutant(
        "only the first address of a name is tried",
        "PureEpollLevel",
        ((CONNECTING, "extend(_in_turns(found))", "extend(_in_turns(found)[:1])"),),
        ("every_address_of_a_name_is_tried",),
    ),
    Mutant(
        "the next address waits until the last has failed",
        "PureSelect",
        (
            (
                CONNECTING,
                "        if self._left:\n            self._next = ",
                "        if False:\n            self._next = ",
            ),
        ),
        ("an_address_that_is_silent_does_not_hold_up_the_next",),
    ),
    Mutant(
        "connecting has no cap",
        "PureEpollLevel",
        ((CONNECTING, "if outgoing >= engine.limits.connections:", "if False:"),),
        ("outgoing_connections_have_a_cap_of_their_own",),
    ),
    Mutant(
        "a server that ends goes on connecting",
        "PureSelect",
        (("parts/loop.py", "            each.fail(ended())\n", "            pass\n"),),
        ("the_end_of_the_server_ends_what_is_on_its_way",),
    ),
    Mutant(
        "a relay's process waits for the side that does not read",
        "PureProcess",
        (("pure/blocking_transport.py", "if self._verb is not Verb.RELAY:", "if True:"),),
        ("an_upstream_that_reads_slowly_holds_up_the_client_and_loses_nothing",),
    ),
    Mutant(
        "one upstream of a pool is tried, and no other",
        "PureEpollLevel",
        ((SEARCHING, "        if not self._try_next():\n            self._give_up", _NEVER_NEXT),),
        ("the_next_upstream_of_a_pool_is_joined_where_one_refuses",),
    ),
    Mutant(
        "a search goes on although its client is gone",
        "PureSelect",
        ((SEARCHING, "            self._handle.cancel()\n", ""),),
        ("a_pool_counts_no_client_that_ends_before_it_is_joined",),
    ),
    Mutant(
        "a client that ends while it is searched for stays counted",
        "PureEpollEdge",
        ((SEARCHING, "            self._pool.left(self._upstream)\n", ""),),
        ("a_pool_counts_no_client_that_ends_before_it_is_joined",),
    ),
    Mutant(
        "a client that was joined with a pool's upstream stays counted",
        "PureSelect",
        (("parts/joining.py", "transport.set_protocol(upstream)", "transport.set_protocol(None)"),),
        ("a_pool_counts_no_client_that_has_gone",),
    ),
    Mutant(
        "a pool has no cap",
        "PureEpollLevel",
        (("pool/pool.py", "math.inf if max_active is None else max_active", "math.inf"),),
        ("a_client_beyond_a_pools_cap_is_refused_at_once",),
    ),
    Mutant(
        "a place that comes free is nobody's",
        "PureEpollLevel",
        (("pool/upstream.py", "            self.freed()\n", "            pass\n"),),
        ("a_client_beyond_a_pools_cap_waits_for_a_place_where_there_is_a_queue",),
    ),
    Mutant(
        "who waits for a place waits for ever",
        "PureSelect",
        ((SEARCHING, "call_later(pool.queue_timeout", "call_later(60"),),
        ("a_client_that_waited_in_vain_is_refused",),
    ),
    Mutant(
        "a client's own key is not looked at",
        "PureProcess",
        ((SEARCHING, "if not key and client", "if client"),),
        ("a_key_says_which_upstream_of_a_pool_it_is",),
    ),
    Mutant(
        "who ends a relay that ends with its first side is forgotten",
        "PureEpollLevel",
        (
            (
                "parts/transport.py",
                "self._hold & (HOLD_EOF | HOLD_FIRST) | HOLD_CLOSING",
                "self._hold & HOLD_EOF | HOLD_CLOSING",
            ),
        ),
        ("an_upstream_that_closes_before_it_answers_is_ejected_once_it_was_asked",),
    ),
    Mutant(
        "an upstream is blamed for a client that goes",
        "PureSelect",
        (
            ("pool/trials.py", "elif _is_its_own(exc):", "elif True:"),
            ("pool/trials.py", "{exc.strerror or exc}", ""),
        ),
        ("a_client_that_goes_unanswered_shows_nothing_of_its_upstream",),
    ),
    Mutant(
        "a pool cuts whom it holds, whoever is failing",
        "PureEpollLevel",
        (
            (
                "pool/trials.py",
                "held = list(self._held.get(upstream, ()))",
                "held = [each for its in self._held.values() for each in its]",
            ),
        ),
        ("clients_of_an_upstream_that_is_failing_are_cut_and_no_others",),
    ),
    Mutant(
        "a process has one upstream of a pool tried, and no other",
        "PureProcess",
        ((SEARCHING, "        if not self._try_next():\n            self._give_up", _NEVER_NEXT),),
        ("the_next_upstream_of_a_pool_is_joined_where_one_refuses",),
    ),
]
