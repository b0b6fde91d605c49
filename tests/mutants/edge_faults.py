"""The planted faults of an edge trigger: whoever stops early is not told again."""

from __future__ import annotations

from .faults import EPOLL, LISTENER, TRANSPORT, Mutant

EDGE_MUTANTS = [
    Mutant(
        "a single accept under an edge trigger",
        "PureEpollEdge",
        ((LISTENER, "            if self._closed or self._resting:\n", "            if True:\n"),),
        ("twenty_clients_that_connect_at_the_same_moment_are_all_served",),
    ),
    Mutant(
        "a single receive under an edge trigger",
        "PureEpollEdge",
        (
            (EPOLL, "in range(limits.reads_per_turn)", "in range(1)"),
            (
                EPOLL,
                "        self._engine.left_over(self.go_on)\n\n    def _ended",
                "\n    def _ended",
            ),
        ),
        ("five_thousand_bytes_at_once_come_back_whole",),
    ),
    Mutant(
        "the budget of a turn is spent and nobody comes back",
        "PureEpollEdge",
        (
            (
                EPOLL,
                "        self._engine.left_over(self.go_on)\n\n    def _ended",
                "\n    def _ended",
            ),
        ),
        ("five_thousand_bytes_at_once_come_back_whole",),
    ),
    Mutant(
        "a short receive ends the reading although a FIN came along",
        "PureEpollEdge",
        ((EPOLL, "(size < chunk and not to_the_end)", "size < chunk"),),
        ("data_and_eof_that_come_together_are_both_heard",),
    ),
    Mutant(
        "resuming under an edge trigger waits for an edge that has passed",
        "PureEpollEdge",
        ((EPOLL, "if self._state != LOST and not self._hold & ~HOLD_CLOSING:", "if False:"),),
        ("a_paused_connection_hears_nothing_until_it_resumes",),
    ),
    Mutant(
        "the write buffer has no cap",
        "PureEpollEdge",
        ((TRANSPORT, "if size > self._engine.limits.write_buffer:", "if False:"),),
        ("a_write_buffer_beyond_its_cap_aborts_the_connection",),
    ),
    Mutant(
        "urgent data ends the reading under an edge trigger",
        "PureEpollEdge",
        ((EPOLL, "| select.EPOLLPRI |", "|"),),
        ("what_stands_behind_urgent_data_is_heard",),
    ),
]
