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
from muxcore.load.generator import LoadError, Phase, generator, window
from muxcore.load.interrupts import held_back
from muxcore.load.result import LoadResult

_SPARE = 64  # descriptors the client needs for itself
_PIECE = 65_536  # bytes; what a pipe holds (pipe(7))

Progress = Callable[[float, int], None]


def room() -> int:
    """Return how many connections fit into one process, with all the descriptors it may have."""
    return max(take_all() - _SPARE, 1)


def needed(config: LoadConfig, asked: int | None = None) -> int:
    """Return how many client processes a load takes, with as many descriptors as they may have.

    Raises:
        ValueError: fewer were asked for than the descriptor limit allows, or more than connections.
    """
    least = math.ceil((config.connections + config.idle) / room())
    if asked is None:
        return least
    if not least <= asked <= config.connections:
        raise ValueError(
            f"{config.connections + config.idle} connections at {room()} a process take "
            f"{least} to {config.connections} processes, not {asked}"
        )
    return asked


def run(
    config: LoadConfig,
    processes: int,
    *,
    kind: str = "auto",
    warmup: float,
    seconds: float,
    progress: Progress | None = None,
) -> LoadResult:
    """Run a load and return its result. Ctrl-C ends it early, with the result up to then.

    Args:
        config: the whole load.
        processes: see :func:`needed`; 1 runs it in this process.
        kind: see :func:`muxcore.load.generator`.
        warmup: seconds before counting begins.
        seconds: seconds that count.
        progress: called with the seconds measured so far and the messages received in them.

    Raises:
        LoadError: the generator cannot be had, or a client process failed.
    """
    if processes == 1:
        return _here(config, kind, warmup, seconds, progress)
    shares = [_share(config, processes, number) for number in range(processes)]
    clients = [Client([sys.executable, "-m", "muxcore.load.sharding"]) for _ in shares]
    try:
        for client, share in zip(clients, shares, strict=True):
            client.tell(_as_json(share) | {"kind": kind, "warmup": warmup, "seconds": seconds})
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

    def show(phase: Phase, result: LoadResult) -> None:
        if progress and phase is Phase.MEASURING:
            progress(result.seconds, result.received)

    try:
        source.begin(warmup, seconds)
        stopping = False
        while True:
            try:
                phase = source.run(0.1)
            except KeyboardInterrupt:
                if stopping:
                    raise
                stopping = True
                source.stop()
                continue
            if phase is Phase.IDLE:
                return source.result()
            show(phase, source.result())
    finally:
        source.close()


def _collect(clients: list[Client], progress: Progress | None) -> LoadResult:
    """Let them begin, and return what they found; a first interrupt ends it early."""
    waiting = list(clients)
    results: list[LoadResult] = []
    stopping = False
    while len(results) < len(clients):
        try:
            while waiting:
                waiting[0].tell({})
                waiting.pop(0)
            client = clients[len(results)]
            said = client.hear()
            if "result" in said:
                results.append(LoadResult.from_json(said["result"]))
            elif progress and not results:
                progress(said["seconds"], said["received"] * len(clients))
            client.heard()
        except KeyboardInterrupt:
            if stopping:
                raise
            stopping = True
            for client in clients:
                client.interrupt()
    whole = results[0]
    for other in results[1:]:
        whole.merge(other)
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
        seed=config.seed + number,
    )


def _as_json(config: LoadConfig) -> dict[str, Any]:
    texts = {"request": config.request.decode("latin-1"), "reply": config.reply.decode("latin-1")}
    return {"config": dataclasses.asdict(config) | texts}


def _from_json(found: dict[str, Any]) -> LoadConfig:
    address = Address(**found.pop("address"))
    sizes = tuple((size, weight) for size, weight in found.pop("sizes"))
    request, reply = (found.pop(name).encode("latin-1") for name in ("request", "reply"))
    return LoadConfig(address=address, sizes=sizes, request=request, reply=reply, **found)


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

    def connecting(phase: Phase, result: LoadResult) -> None:
        if select.select([orders], [], [], 0)[0]:  # there is no order before all are connected
            raise BrokenPipeError("nobody gives orders any more")

    def show(phase: Phase, result: LoadResult) -> None:
        if stops:
            source.stop()
        say({"seconds": result.seconds, "received": result.received})

    def stop(number: int, frame: FrameType | None) -> None:
        stops.append(number)

    stops: list[int] = []
    told = order()
    needed(_from_json(dict(told["config"])))
    try:
        source = generator(_from_json(told["config"]), told["kind"])
    except LoadError as exc:
        say({"error": str(exc)})
        return
    window(source, 0.0, 1e-6, progress=connecting)
    signal.signal(signal.SIGINT, stop)
    say({"connected": True})
    order()
    result = window(source, told["warmup"], told["seconds"], progress=show)
    say({"result": result.to_json(counts=True)})


if __name__ == "__main__":
    try:
        _serve(sys.stdin, sys.stdout)
    except BrokenPipeError:
        pass  # who would hear of it is gone
    os._exit(0)  # closing thousands of sockets one by one is the kernel's work
