"""A load from as many client processes as it takes: one process has only so many descriptors.

Each process is told its share in one line of JSON, connects, says so, and starts when it is told
to, so that all of them measure at the same time. Their histograms are added up. A process whose
starter is gone, which its pipes tell, ends without a word.
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
import select
import signal
import subprocess
import sys
from collections.abc import Callable
from types import FrameType
from typing import IO, Any

from muxcore.address import Address
from muxcore.load.config import LoadConfig
from muxcore.load.descriptors import take_all
from muxcore.load.generator import LoadError, Phase, generator
from muxcore.load.interrupts import held_back, noted, number_of
from muxcore.load.result import LoadResult

_SPARE = 64  # descriptors the client needs for itself
_SLICE = 0.1  # seconds between looks at signals and the pipe
_PIECE = 65_536  # bytes; what a pipe holds (pipe(7))

Progress = Callable[[LoadResult], None]
_TEXTS = ("request", "reply", "until", "greeting")  # bytes, which JSON has not


def room() -> int:
    """Return how many connections fit into one process, with all the descriptors it may have."""
    return max(take_all() - _SPARE, 1)


def needed(config: LoadConfig, asked: int | None = None) -> int:
    """Return how many client processes a load takes, with as many descriptors as they may have.

    Raises:
        ValueError: fewer were asked for than the descriptor limit allows, or more than connections
            or messages.
    """
    least = math.ceil((config.connections + config.idle) / room())
    most = min(config.connections, config.messages or config.connections)
    wanted = least if asked is None else asked
    if not least <= wanted <= most:
        raise ValueError(
            f"processes must be from {least} to {most} for {config.connections + config.idle} "
            f"connections at {room()} a process, not {wanted}"
        )
    return wanted


def run(
    config: LoadConfig,
    processes: int,
    *,
    kind: str = "auto",
    warmup: float,
    seconds: float,
    progress: Progress | None = None,
) -> LoadResult:
    """Run a load and return its result.

    Ctrl-C, or a signal that raises :class:`muxcore.load.interrupts.Interrupted`, ends it early,
    with the result up to then; a second one raises.

    Args:
        config: the whole load.
        processes: see :func:`needed`; 1 runs it in this process.
        kind: see :func:`muxcore.load.generator`.
        warmup: seconds before counting begins.
        seconds: seconds that count.
        progress: called with what was found so far, ten times a second; of several processes with
            what the first found, as if all had found the same.

    Raises:
        LoadError: the generator cannot be had, or a client process failed.
    """
    if processes == 1:
        return _here(config, kind, warmup, seconds, progress)
    shares = [_share(config, processes, number) for number in range(processes)]
    clients = [Client([sys.executable, "-m", "muxcore.load.sharding"]) for _ in shares]
    try:
        how = {"kind": kind, "warmup": warmup, "seconds": seconds}
        for client, share in zip(clients, shares, strict=True):
            # One tells how it goes: nobody reads the pipe of another before its result is due.
            tells = progress is not None and client is clients[0]
            client.tell(_as_json(share) | how | {"progress": tells})
        for client in clients:
            client.hear()  # connected
            client.heard()
        return _collect(clients, progress)
    finally:
        for client in clients:
            client.end()


class Client:
    """A client process, which takes orders and answers in lines of JSON.

    Args:
        command: what it runs.
    """

    def __init__(self, command: list[str]) -> None:
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            process_group=0,  # a terminal's Ctrl-C is for this process, which tells the others
        )
        self._heard = b""

    def tell(self, what: dict[str, Any]) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(what).encode() + b"\n")
        self._process.stdin.flush()

    def hear(self) -> dict[str, Any]:
        """Wait for its next line; it stays the next one until ``heard()``.

        An interrupt, at whatever moment, loses nothing: a line is heard twice at worst.

        Raises:
            LoadError: it ended, or says that it failed.
        """
        assert self._process.stdout is not None
        pipe = self._process.stdout.fileno()
        while b"\n" not in self._heard:
            select.select([pipe], [], [])
            with held_back():  # what is out of the pipe is kept first
                piece = os.read(pipe, _PIECE)
                self._heard += piece
            if not piece:
                status = self._process.wait()
                raise LoadError(f"a client process ended with status {status} and no result")
        said: dict[str, Any] = json.loads(self._heard.partition(b"\n")[0])
        if "error" in said:
            raise LoadError(said["error"])
        return said

    def heard(self) -> None:
        """What ``hear()`` returned is dealt with."""
        self._heard = self._heard.partition(b"\n")[2]

    def interrupt(self) -> None:
        self._process.send_signal(signal.SIGINT)

    def end(self) -> None:
        self._process.kill()
        self._process.communicate()


def _here(
    config: LoadConfig, kind: str, warmup: float, seconds: float, progress: Progress | None
) -> LoadResult:
    source = generator(config, kind)
    try:
        with noted() as ends:
            source.begin(warmup, seconds)
            while (phase := source.run(_SLICE)) is not Phase.IDLE:
                if ends:
                    source.stop()
                if progress and phase is Phase.MEASURING:
                    progress(source.result())
        ended_by = signal.Signals(ends[0]).name if ends else ""
        return dataclasses.replace(source.result(), ended_by=ended_by)
    finally:
        source.close()


def _collect(clients: list[Client], progress: Progress | None) -> LoadResult:
    """Let them begin, and return what they found; a first interrupt ends it early."""
    waiting = list(clients)
    results: list[LoadResult] = []
    ended_by = ""
    while len(results) < len(clients):
        try:
            while waiting:
                waiting[0].tell({})
                waiting.pop(0)
            client = clients[len(results)]
            said = client.hear()
            if "result" in said:
                results.append(LoadResult.from_json(said["result"]))
            elif progress:
                progress(LoadResult.from_json(said["progress"]).times(len(clients)))
            client.heard()
        except KeyboardInterrupt as exc:
            if ended_by:
                raise
            ended_by = signal.Signals(number_of(exc)).name
            for client in clients:
                client.interrupt()
    whole = results[0]
    for other in results[1:]:
        whole.merge(other)
    whole.ended_by = ended_by
    return whole


def _share(config: LoadConfig, processes: int, number: int) -> LoadConfig:
    def part(total: int) -> int:
        return total * (number + 1) // processes - total * number // processes

    mine = part(config.connections)
    return dataclasses.replace(
        config,
        connections=mine,
        idle=part(config.idle),
        rate=config.rate * mine / config.connections,
        messages=part(config.messages),
        seed=config.seed + number,
    )


def _as_json(config: LoadConfig) -> dict[str, Any]:
    texts = {name: getattr(config, name).decode("latin-1") for name in _TEXTS}
    return {"config": dataclasses.asdict(config) | texts}


def _from_json(found: dict[str, Any]) -> LoadConfig:
    address = Address(**found.pop("address"))
    sizes = tuple((size, weight) for size, weight in found.pop("sizes"))
    texts = {name: found.pop(name).encode("latin-1") for name in _TEXTS}
    return LoadConfig(address=address, sizes=sizes, **texts, **found)


def _serve(orders: IO[str], answers: IO[str]) -> None:
    """Be one of the client processes.

    Raises:
        BrokenPipeError: the process that started this one is gone.
    """

    def say(what: dict[str, Any]) -> None:
        print(json.dumps(what), file=answers, flush=True)

    def order() -> dict[str, Any]:
        line = orders.readline()
        if not line:
            raise BrokenPipeError("nobody gives orders any more")
        found: dict[str, Any] = json.loads(line)
        return found

    def stop(number: int, frame: FrameType | None) -> None:
        stops.append(number)

    def look() -> None:
        """Look whether somebody waits for the result: no order comes while this is called."""
        if select.select([orders], [], [], 0)[0]:
            raise BrokenPipeError("nobody gives orders any more")

    stops: list[int] = []
    told = order()
    needed(_from_json(dict(told["config"])))
    try:
        source = generator(_from_json(told["config"]), told["kind"])
    except LoadError as exc:
        say({"error": str(exc)})
        return
    source.begin(told["warmup"], told["seconds"])
    while source.run(_SLICE) is Phase.CONNECTING:
        look()
    signal.signal(signal.SIGINT, stop)
    say({"connected": True})
    order()
    while (phase := source.run(_SLICE)) is not Phase.IDLE:
        look()
        if stops:
            source.stop()
        if told["progress"] and phase is Phase.MEASURING:
            say({"progress": source.result().to_json(counts=True)})
    say({"result": source.result().to_json(counts=True)})


if __name__ == "__main__":
    try:
        _serve(sys.stdin, sys.stdout)
    except BrokenPipeError:
        pass  # who would hear of it is gone
    os._exit(0)  # closing thousands of sockets one by one is the kernel's work
