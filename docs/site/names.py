"""The reference of a module's public names, made from its docstring and theirs.

    :::{names} muxcore.parsers
    :::
    :::{names} muxcore.abc Engine CAPABILITIES
    :::

Names that follow are these alone; a module without ``__all__`` has its docstring, one that is
``:bare:`` has not. What is experimental comes later, and errors last. A name that another page
tells of is referred to.
"""

from __future__ import annotations

import abc
import importlib
import inspect
import sys
import typing
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

from docutils import nodes
from docutils.parsers.rst import directives
from sphinx.ext.autodoc import SLOTSATTR
from sphinx.util.docutils import SphinxDirective

_HOME = ("muxcore", "muxcore.parsers", "muxcore.aio")  # the first of these has what several show


class Names(SphinxDirective):
    required_arguments = 1
    optional_arguments = 99
    option_spec: ClassVar = {"bare": directives.flag}

    def run(self) -> list[nodes.Node]:
        module = importlib.import_module(self.arguments[0])
        wanted = self.arguments[1:] or [
            name for name in getattr(module, "__all__", ()) if not name.startswith("__")
        ]
        experimental = getattr(module, "_EXPERIMENTAL", ())
        wanted.sort(
            key=lambda n: (_is_error(getattr(module, n)), n in experimental, n.lower()),
        )
        lines = [line for name in wanted for line in _told(module.__name__, name)]
        about = f".. {'py:' if 'bare' in self.options else 'auto'}module:: {module.__name__}\n"
        text = "\n".join(["```{eval-rst}", about, *lines, "```"])
        return self.parse_text_to_nodes(text)


def _is_error(found: Any) -> bool:
    return inspect.isclass(found) and issubclass(found, Exception)


def _told(module: str, name: str) -> Iterator[str]:
    """Yield what autodoc is asked for a name."""
    found = getattr(importlib.import_module(module), name)
    kind = "class" if inspect.isclass(found) else "function" if callable(found) else "data"
    for home in _HOME[: _HOME.index(module) if module in _HOME else 0]:
        if getattr(importlib.import_module(home), name, None) is found:
            yield f".. py:data:: {name}\n   :module: {module}\n"
            yield f"   The same as :any:`{home}.{name}`.\n"
            return
    yield f".. auto{'exception' if _is_error(found) else kind}:: {module}.{name}"
    if kind == "class":
        yield "   :members:\n   :undoc-members:"
        if _known(found.__bases__):
            yield "   :show-inheritance:"
    yield ""


def _bases(app: Any, name: str, found: Any, options: Any, bases: list[type]) -> None:
    bases[:] = _known(bases) or bases


def _known(bases: Sequence[type]) -> list[type]:
    """Return the bases that say something to somebody who does not know the code."""
    homes = [sys.modules.get(home) for home in (*_HOME, "muxcore.testing")]
    return [
        each
        for each in bases
        if each not in (object, abc.ABC, typing.Protocol)
        and (
            not each.__module__.startswith("muxcore")
            or any(getattr(home, each.__name__, None) is each for home in homes)
        )
    ]


def _signature(
    app: Any, what: str, name: str, found: Any, options: Any, call: str, result: str
) -> tuple[str, None] | None:
    """Show no call of what nobody makes."""
    return ("", None) if getattr(found, "_is_protocol", False) else None


def _skip(app: Any, what: str, name: str, found: Any, skip: bool, options: Any) -> bool | None:
    """Leave out fields, which their class tells of, and what a suite tests: it may grow."""
    slot = found is SLOTSATTR or type(found).__module__.startswith("sphinx.")  # since Sphinx 9
    return True if slot or name.startswith("test_") else None


def setup(app: Any) -> dict[str, Any]:
    app.add_directive("names", Names)
    app.connect("autodoc-process-bases", _bases)
    app.connect("autodoc-process-signature", _signature)
    app.connect("autodoc-skip-member", _skip)
    return {"parallel_read_safe": True}
