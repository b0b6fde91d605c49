"""PostgreSQL through the relay: transactions of pgbench, copies in either direction, a dump.

And through the router of examples/tenant_router.py, with PostgreSQL's own client.
"""

from __future__ import annotations

import functools
import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import muxcore

pytestmark = pytest.mark.real

_CLIENTS = 8
_ROUTER = Path(__file__).parents[2] / "examples" / "tenant_router.py"
_SEED = 7  # of pgbench's random numbers: one client's transactions are the same each time

# What all transactions wrote into the history is the sum of every table's balances.
_BALANCES = """
    SELECT (SELECT count(*) FROM pgbench_history), s, s = (SELECT sum(abalance) FROM
    pgbench_accounts), s = (SELECT sum(tbalance) FROM pgbench_tellers), s = (SELECT sum(bbalance)
    FROM pgbench_branches) FROM (SELECT sum(delta) AS s FROM pgbench_history) AS history
"""
_CONTENT = "COPY (SELECT aid, bid, abalance FROM pgbench_accounts ORDER BY aid) TO STDOUT"
_HISTORY = "COPY (SELECT tid, bid, aid, delta FROM pgbench_history) TO STDOUT"


class _Client:
    """PostgreSQL's clients against one address: a folder with the unix socket, or HOST:PORT."""

    def __init__(self, run: Callable[..., str], address: str) -> None:
        where, _, port = address.removeprefix("unix:").rpartition(":")
        if address.startswith("unix:"):
            where, port = str(Path(address.removeprefix("unix:")).parent), "5432"
        self._run = run
        self._options = ("-h", where, "-p", port, "-U", "tester")

    def __call__(self, program: str, *arguments: object, **options: Any) -> str:
        return self._run(program, *self._options, *arguments, "postgres", **options)

    def query(self, sql: str, **options: Any) -> str:
        return self("psql", "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-c", sql, **options)

    def initialise(self) -> None:
        self("pgbench", "-i", "-s", "1", "-q")


@pytest.fixture(scope="module")
def postgres(run: Callable[..., str], start: Callable[..., Any]) -> Iterator[str]:
    """A PostgreSQL with the user "tester"; the address of its unix socket."""
    # pytest's own folders are closed to other users, and too deep for the path of a socket
    folder = Path(tempfile.mkdtemp(prefix="muxcore-"))
    address = f"unix:{folder}/.s.PGSQL.5432"
    options: dict[str, Any] = {"cwd": folder}
    if os.geteuid() == 0:  # initdb and postgres refuse to run as root
        user = _unprivileged()
        os.chown(folder, user.pw_uid, user.pw_gid)
        options |= {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
    try:
        data = str(folder / "data")
        run("initdb", "-D", data, "-U", "tester", "-A", "trust", "--no-sync", **options)
        settings = ["-c", "listen_addresses=", "-c", "fsync=off"]
        server = start("postgres", "-D", data, "-k", str(folder), *settings, **options)
        try:
            server.until(functools.partial(_serves, run, folder))
            yield address
        finally:
            server.end(signal.SIGINT)  # does not wait for its clients
    finally:
        shutil.rmtree(folder)


@pytest.fixture(scope="module")
def outcome(postgres: str, run: Callable[..., str]) -> tuple[str, str]:
    """What one client's transactions leave in the tables, without a relay."""
    return _outcome(_Client(run, postgres), _Client(run, postgres))


@pytest.mark.parametrize(
    ("transactions", "options"),  # of each client
    [(25, ("-M", "simple")), (25, ("-M", "prepared")), (5, ("-M", "extended", "-C"))],
    ids=["simple", "prepared", "a connection each"],
)
def test_every_transaction_of_pgbench_is_in_the_history(
    way: Any,
    postgres: str,
    run: Callable[..., str],
    transactions: int,
    options: tuple[str, ...],
) -> None:
    direct, client = _Client(run, postgres), _Client(run, way(postgres))
    client.initialise()
    report = client("pgbench", "-n", "-c", _CLIENTS, "-t", transactions, *options)
    count = _CLIENTS * transactions
    assert f"number of transactions actually processed: {count}/{count}\n" in report
    assert "number of failed transactions: 0 (0.000%)\n" in report
    found, _, *equal = direct.query(_BALANCES).strip().split("|")
    assert (int(found), equal) == (count, ["t", "t", "t"])


def test_the_same_transactions_leave_what_they_leave_without_a_relay(
    way: Any, postgres: str, run: Callable[..., str], outcome: tuple[str, str]
) -> None:
    assert _outcome(_Client(run, way(postgres)), _Client(run, postgres)) == outcome


def test_tables_are_the_same_after_a_copy_out_and_in(
    way: Any, postgres: str, run: Callable[..., str], tmp_path: Path
) -> None:
    direct, client = _Client(run, postgres), _Client(run, way(postgres))
    direct.initialise()
    rows = client.query(_CONTENT)
    assert rows == direct.query(_CONTENT)
    direct.query("DROP TABLE IF EXISTS copied; CREATE TABLE copied (LIKE pgbench_accounts)")
    file = tmp_path / "rows"
    file.write_text(rows)
    with file.open("rb") as source:
        client.query("COPY copied (aid, bid, abalance) FROM STDIN", stdin=source)
    both = "SELECT aid, bid, abalance FROM {}"
    difference = " EXCEPT ALL ".join(map(both.format, ("pgbench_accounts", "copied")))
    assert direct.query("SELECT count(*) FROM copied") == "100000\n"
    assert direct.query(difference) == ""


def test_a_dump_is_the_same_as_without_a_relay(
    way: Any, postgres: str, run: Callable[..., str]
) -> None:
    direct, client = _Client(run, postgres), _Client(run, way(postgres))
    direct.initialise()
    dump = client("pg_dump")
    assert dump.count("\n") > 100_000
    assert _without_token(dump) == _without_token(direct("pg_dump"))


@pytest.mark.parametrize(
    "engine", [i.name for i in muxcore.engines() if i.available and "guest" in i.capabilities]
)
def test_a_tenant_is_found_by_its_database_and_who_is_none_reads_why(
    engine: str,
    postgres: str,
    run: Callable[..., str],
    start: Callable[..., Any],
    tmp_path: Path,
) -> None:
    tenants = tmp_path / "tenants.toml"
    tenants.write_text(f'postgres = ["{postgres}"]\ndown = ["unix:{tmp_path}/nobody"]\n')
    router = start(sys.executable, str(_ROUTER), "127.0.0.1:0", str(tenants), "--engine", engine)
    router.until(lambda: router.said().endswith("\n"))
    where = router.said().split()[2]
    direct, client = _Client(run, postgres), _Client(run, where)
    client.initialise()
    client("pgbench", "-n", "-c", _CLIENTS, "-t", 25, "-C")  # a connection for each transaction
    assert client.query(_CONTENT) == direct.query(_CONTENT)
    for database, why in (("down", "cannot be reached now"), ("nobody", "does not exist")):
        host, port = where.split(":")
        said = run(
            *(
                "psql",
                "-X",
                "-h",
                host,
                "-p",
                port,
                "-U",
                "tester",
                "-d",
                database,
                "-c",
                "SELECT 1",
            ),
            expected=2,
            stderr=subprocess.STDOUT,
        )
        assert "FATAL" in said
        assert why in said
    ends = router.output.read_text().splitlines()[1:]
    assert len(ends) == len([line for line in ends if line.endswith(", closed")]) > _CLIENTS * 25
    assert router.end(signal.SIGTERM) == 0


def _outcome(client: _Client, reader: _Client) -> tuple[str, str]:
    client.initialise()
    client("pgbench", "-n", "-c", "1", "-t", "100", f"--random-seed={_SEED}")
    return reader.query(_CONTENT), reader.query(_HISTORY)


def _without_token(dump: str) -> list[str]:
    """Later versions mark a dump's begin and end with a random word."""
    return [line for line in dump.splitlines() if not line.startswith(("\\restrict", "\\unrestr"))]


def _serves(run: Callable[..., str], folder: Path) -> bool:
    said = run("pg_isready", "-h", folder, "-p", "5432", may_fail=True)
    return said.endswith(" - accepting connections\n")


def _unprivileged() -> pwd.struct_passwd:
    try:
        return pwd.getpwnam("postgres")
    except KeyError:
        return pwd.getpwnam("nobody")
