"""How many descriptors this process may have: a program takes them all, a library none."""

from __future__ import annotations

import contextlib
import resource

_NO_LIMIT = 1 << 20  # what stands for "no limit": Linux's own default for fs.nr_open


def take_all() -> int:
    """Raise the soft limit on descriptors to the hard one, and return it.

    The soft one is mostly 1,024, for the sake of programs that use select(2); those of ours that
    do refuse what is beyond. Programs started from now on have the raised limit as well.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with contextlib.suppress(ValueError, OSError):  # macOS: the kernel's own cap is lower
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
            soft = hard
    return soft if soft != resource.RLIM_INFINITY else _NO_LIMIT
