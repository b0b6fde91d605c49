"""Print the change log's section for a tag, and refuse one that is not this tree's version."""

from __future__ import annotations

import re
import sys
from pathlib import Path

_ROOT = Path(__file__).resolve().parents[1]


def notes(tag: str, version: str, changelog: str) -> str:
    """Return the section of the change log for a tag.

    Raises:
        SystemExit: the tag is not "v" and this version, or the section is missing or empty.
    """
    if tag != f"v{version}":
        raise SystemExit(
            f"the tag is {tag}, the version is {version}: tag v{version}, or change it"
        )
    heading = rf"^## \[{re.escape(version)}\][^\n]*\n(.*?)(?=^## |\Z)"
    found = re.search(heading, changelog, re.MULTILINE | re.DOTALL)
    if not found or not found[1].strip():
        raise SystemExit(f"CHANGELOG.md has no section [{version}]: write it, then tag again")
    return found[1].strip() + "\n"


def main() -> None:
    text = (_ROOT / "muxcore" / "_version.py").read_text()
    version = re.search(r'^__version__ = "(.+)"$', text, re.MULTILINE)
    if version is None:
        raise SystemExit("muxcore/_version.py holds no version")
    sys.stdout.write(notes(sys.argv[1], version[1], (_ROOT / "CHANGELOG.md").read_text()))


if __name__ == "__main__":
    main()
