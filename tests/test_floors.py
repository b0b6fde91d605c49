"""The house stands: a file imports only from floors below its own, and nothing goes in a circle.

Imports inside functions and under TYPE_CHECKING count, and so do modules named in strings, as in
the registry's table.
"""

from __future__ import annotations

import ast
import graphlib
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

_ROOT = Path(__file__).parents[1]

# From the ground up; a package stands for all its files, which may import one another.
_FLOORS = [
    ["_version", "_forks", "_near", "_seldom", "_units", "errors", "limits", "rate", "stats"],
    ["address", "parsers", "_imported"],
    ["pool"],
    ["protocol"],
    ["abc"],
    ["parts"],
    ["pure", "native", "adapters"],
    ["restarting"],
    ["registry", "_moved"],
    ["workers", "services", "_demands", "_at_exit", "_phases", "hosts"],
    ["_life", "_chosen"],
    ["_signals", "_supervised"],
    ["_running"],
    ["server"],
    ["_serve"],
    [""],  # muxcore itself: the public names
    ["aio", "load"],
    ["compare", "admin", "config"],
    ["cli", "testing"],
    ["__main__"],
]
_CORE = "muxcore.native._core"  # compiled
_FLOOR = {room: number for number, rooms in enumerate(_FLOORS) for room in rooms}

# A factory that imports what it picks, inside the function, when it is picked.
_CIRCLES = {
    ("muxcore.aio.serving", "muxcore.aio.working"),
    ("muxcore.load.generator", "muxcore.load.native"),
    ("muxcore.load.generator", "muxcore.load.pure"),
}


def modules() -> dict[str, Path]:
    found = {}
    for path in (_ROOT / "muxcore").rglob("*.py"):
        parts = path.relative_to(_ROOT).with_suffix("").parts
        found[".".join(parts).removesuffix(".__init__")] = path
    return found


MODULES = modules()


def module_of(name: str) -> str | None:
    """Return the module of ours that a dotted name is, or is a name in."""
    for candidate in (name, name.rpartition(".")[0]):
        if candidate in MODULES or candidate == _CORE:
            return candidate
    return None


def imports(path: Path) -> Iterator[str]:
    """Yield each module of ours that a file names anywhere."""
    for node in ast.walk(ast.parse(path.read_text())):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: a relative import"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            name = node.value.partition(":")[0]
            names = [name] if "." in name and (name in MODULES or name == _CORE) else []
        yield from filter(None, (module_of(name) for name in names))


IMPORTS = {module: set(imports(path)) - {module} for module, path in MODULES.items()}


def room(module: str) -> str:
    return module.partition(".")[2].partition(".")[0]


def test_every_room_stands_on_a_floor_and_every_floor_has_its_rooms() -> None:
    assert {room(module) for module in MODULES} == set(_FLOOR)


@pytest.mark.parametrize("module", sorted(MODULES))
def test_a_file_imports_only_from_floors_below_its_own(module: str) -> None:
    here = _FLOOR[room(module)]
    wrong = {
        other
        for other in IMPORTS[module]
        if room(other) != room(module) and _FLOOR[room(other)] >= here
    }
    assert not wrong, f"{module} imports from beside or above: {', '.join(sorted(wrong))}"


def test_no_import_goes_in_a_circle() -> None:
    graph = {m: {o for o in others if (m, o) not in _CIRCLES} for m, others in IMPORTS.items()}
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as exc:
        pytest.fail(f"a circle: {' <- '.join(exc.args[1])}")


def test_no_circle_is_allowed_that_is_not_there() -> None:
    for module, other in _CIRCLES:
        assert other in IMPORTS[module]
        assert module in IMPORTS[other]


@pytest.mark.parametrize(
    "package",
    [
        *("admin", "config", "parts", "pool", "restarting", "workers"),
        *("services.guard", "services.router"),
    ],
)
def test_the_map_of_a_package_names_every_file_once(package: str) -> None:
    inside = f"muxcore.{package}."
    files = [name.removeprefix(inside) for name in MODULES if name.startswith(inside)]
    told = ast.get_docstring(ast.parse(MODULES[inside[:-1]].read_text())) or ""
    listed = re.findall(r"``(\w+)``[,:]", told)
    assert sorted(listed) == sorted(files)


def loaded_by(statement: str) -> set[str]:
    """Return the modules that a statement loads in an interpreter of its own."""
    program = (
        "import json, sys; before = set(sys.modules)\n"
        f"{statement}\nprint(json.dumps(sorted(set(sys.modules) - before)))"
    )
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, cwd=_ROOT)
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout))


def foreign(loaded: set[str]) -> set[str]:
    top = {name.partition(".")[0] for name in loaded}
    return top - set(sys.stdlib_module_names) - {"muxcore", "cffi", "_cffi_backend"}


def test_importing_muxcore_loads_no_engine_and_nothing_but_cffi_from_outside() -> None:
    loaded = loaded_by("import muxcore")
    assert foreign(loaded) == set()
    unneeded = ("pure", "native", "adapters", "cli", "load", "parsers")
    assert not any(room(name) in unneeded for name in loaded)
    assert "asyncio" not in loaded


def test_an_engine_is_loaded_when_it_is_chosen_and_no_other_is() -> None:
    loaded = loaded_by("import muxcore; muxcore.engine('pure-select')")
    assert "muxcore.pure.select_engine" in loaded
    assert not loaded & {"muxcore.pure.epoll_engine", "muxcore.pure.process_engine", "asyncio"}
    assert not any(room(name) == "native" for name in loaded)


def test_no_module_but_the_suites_needs_anything_but_cffi() -> None:
    every = [m for m in sorted(MODULES) if room(m) not in ("testing", "__main__")]
    every.remove("muxcore.hosts.trio_host")  # trio, which runs already, is what it is for
    every.remove("muxcore.aio.anyio_stream")  # and anyio here, which is there already
    tolerated = f"except ImportError as exc:\n        if exc.name != {_CORE!r}: raise"
    statement = (
        f"import importlib\nfor name in {every!r}:\n"
        f"    try: importlib.import_module(name)\n    {tolerated}"
    )
    assert foreign(loaded_by(statement)) == set()
