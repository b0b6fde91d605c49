"""Whose turn it is: a number in memory that forked children share.

Each of them serves one client, and all would begin with the same upstream. A turn that two of them
take at once does no harm.
"""

from __future__ import annotations

import mmap

_shared: list[memoryview] = []  # yet to be given out


def shared_number() -> memoryview:
    """Return such a number.

    A page has many: a process may have tens of thousands of pools, and 65,530 mappings
    (vm.max_map_count).
    """
    if not _shared:
        page = memoryview(mmap.mmap(-1, mmap.PAGESIZE)).cast("Q")
        _shared.extend(page[at : at + 1] for at in range(len(page)))
    return _shared.pop()
