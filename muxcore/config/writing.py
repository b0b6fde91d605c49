"""A file that says what tables mean; read again, it means the same."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from muxcore.config.kinds import Each, Node, Table
from muxcore.config.lines import BARE
from muxcore.config.schema import FILE


def written(tables: Mapping[str, Any]) -> str:
    """Return the text of a file.

    Args:
        tables: as ``Document.tables``.
    """
    return "\n".join(_sections(FILE, tables, ())).strip() + "\n"


def _sections(node: Table, tables: Mapping[str, Any], path: tuple[str, ...]) -> Iterator[str]:
    """Yield the lines of a table that has a header, and of those in it."""
    inner = {key: its for key, its in node.keys.items() if path[1:] == () and _is_section(its)}
    plain = [key for key in tables if key not in inner]
    if path and (plain or not tables):
        yield f"\n[{'.'.join(map(_key, path))}]"
    for key in plain:
        yield f"{_key(key)} = {_value(node.keys[key], tables[key])}"
    for key, its in inner.items():
        if key not in tables:
            continue
        if isinstance(its, Each):
            assert isinstance(its.of, Table)
            for name, table in tables[key].items():
                yield from _sections(its.of, table, (*path, key, name))
        else:
            assert isinstance(its, Table)
            yield from _sections(its, tables[key], (*path, key))


def _is_section(node: Node) -> bool:
    return isinstance(node, Table) or (isinstance(node, Each) and node.named)


def _value(node: Node, value: Any) -> str:
    if isinstance(node, Table):
        if node.short and list(value) == [node.short]:
            return _value(node.keys[node.short], value[node.short])
        return (
            f"{{{', '.join(f'{_key(k)} = {_value(node.keys[k], v)}' for k, v in value.items())}}}"
        )
    if isinstance(node, Each):
        return f"[{', '.join(_value(node.of, each) for each in value)}]"
    return _plain(node.show(value))


def _plain(value: Any) -> str:
    if isinstance(value, str):
        # what JSON escapes, TOML does; but for DEL, which it does not have as it is
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, list):
        return f"[{', '.join(map(_plain, value))}]"
    if isinstance(value, bool):
        return "true" if value else "false"
    return repr(value)


def _key(key: str) -> str:
    return key if BARE.fullmatch(key) else _plain(key)
