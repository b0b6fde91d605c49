"""Faults planted in the rates."""

from __future__ import annotations

from .fault import CONNECTION, LOOP, RATE, one

RATES = [
    one("what is received is not spent", RATE, "in->level -= (double)size;", "(void)size;"),
    one(
        "a receive takes more than its rate has",
        RATE,
        "            size = (size_t)rates->buckets[it->buckets[i]].level;\n",
        "            continue;\n",
    ),
    one(
        "nobody is told that it has its turn",
        LOOP,
        "    for (uint32_t index; (index = mux_rates_next",
        "    for (uint32_t index; (index = MUX_NONE) == 7 && (index = mux_rates_next",
    ),
    one(
        "a change does not reach those who wait",
        RATE,
        "    set(it, per_second, burst);\n    if (it->waiting) {",
        "    set(it, per_second, burst);\n    if (false) {",
    ),
    one(
        "the next life of a slot has its rates",
        CONNECTION,
        "    leave_rates(loop, slot);\n    slot->hold",
        "    slot->hold",
    ),
    one(
        "a bucket is freed while a connection counts against it",
        RATE,
        "        rates->buckets[which[i]].users++; /* first",
        "        continue; /* first",
    ),
]
