"""The planted faults of a server's life: how it is stopped, what it owns, what it believes."""

from __future__ import annotations

from .faults import LOOP, PROCESS, Mutant

LIFE = "_life.py"
SIGNALS = "parts/signals.py"
_THIRD = """        else:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
            os._exit(128 + number)  # to the first process of a container it does nothing
"""

LIFE_MUTANTS = [
    Mutant(
        "a wait is as long as the next timer is far away",
        "PureEpollLevel",
        (("parts/timers.py", "time.monotonic()), LONGEST_WAIT)", "time.monotonic()), 1e300)"),),
        ("a_timer_that_is_due_late_harms_nobody_until_then",),
    ),
    Mutant(
        "any time will do for a time-out",
        "PureSelect",
        (("abc.py", 'seconds("a timeout", timeout)', "timeout"),),
        ("a_timeout_that_is_no_time_is_refused_and_nothing_has_begun",),
    ),
    Mutant(
        "an adopted socket stays the caller's",
        "PureSelect",
        ((LOOP, "sockets.taken_over(sock)", "sock"),),
        ("what_the_caller_does_with_an_adopted_socket_is_without_effect",),
    ),
    Mutant(
        "a listener stays the caller's",
        "PureEpollLevel",
        (("parts/opening.py", "taken_over(sock) if sock in wheres else sock", "sock"),),
        ("a_listener_that_was_handed_over_is_the_servers",),
    ),
    Mutant(
        "a forked child stops its parent's server",
        "PureProcess",
        ((LIFE, "self._engine.is_copy()", "False"),),
        ("a_forked_child_that_ends_normally_leaves_its_parents_server_alone",),
    ),
    Mutant(
        "what is for callbacks may be called from anywhere",
        "PureSelect",
        ((LIFE, "            self._engine.refuse_thread(what)\n", "            pass\n"),),
        ("what_is_for_callbacks_is_refused_in_another_thread",),
    ),
    Mutant(
        "stop does not wait for run",
        "PureEpollLevel",
        (
            (
                LIFE,
                "        if self._runner is None:\n            return self._engine.join(timeout)\n",
                "        return True\n",
            ),
        ),
        ("stop_from_another_thread_waits_for_what_serves_in_this_one",),
    ),
    Mutant(
        "a third signal aborts once more",
        "PureSelect",
        (
            ("parts/signals.py", _THIRD, ""),
            ("parts/signals.py", "elif len(self.received) == 2:", "else:"),
        ),
        ("a_third_signal_ends_a_callback_that_never_returns",),
    ),
    Mutant(
        "a unix socket's full backlog is an error at once",
        "PureEpollLevel",
        (("parts/connecting.py", "if error == errno.EAGAIN and ", "if False and "),),
        ("a_unix_socket_with_a_full_backlog_is_waited_for_as_at_a_tcp_address",),
    ),
    Mutant(
        "a lookup's answer may find the queue full",
        "PureSelect",
        (
            (
                "parts/connecting.py",
                "self._engine.call_from_thread(",
                "self._engine.call_soon_threadsafe(",
            ),
        ),
        ("an_answer_comes_through_where_no_further_call_may_be_queued",),
    ),
    Mutant(
        "coroutines are callbacks",
        "PureSelect",
        (
            (
                "parts/dispatch.py",
                "        if _never_runs(getattr(owner, name, None)):",
                "        if False:",
            ),
        ),
        ("a_coroutine_for_a_callback_is_refused_when_the_server_is_made",),
    ),
    Mutant(
        "a close overtakes what was sent",
        "PureProcess",
        (("pure/blocking_transport.py", "if self._lingers and self._unread", "if False"),),
        ("what_is_unread_at_the_close_does_not_take_what_was_sent",),
    ),
    Mutant(
        "an acceptor without a parent spins",
        "PureProcess",
        ((PROCESS, "        if not orders:\n            self._close_control()\n", ""),),
        ("an_acceptor_whose_parent_is_gone_ends_and_costs_no_cpu_until_then",),
    ),
    Mutant(
        "a program's signal mask is forgotten",
        "PureProcess",
        (
            (
                PROCESS,
                "            signal.pthread_sigmask(signal.SIG_SETMASK, before)",
                "            signal.pthread_sigmask(signal.SIG_UNBLOCK, _HANDLED)",
            ),
        ),
        ("signals_that_the_program_has_blocked_stay_so",),
    ),
]
