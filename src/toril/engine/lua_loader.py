"""Reads the Lua scripts of this package: one command a file, shared functions in `lua/includes/`.

A line `-- include: name` stands for the text of `lua/includes/name.lua`; each include enters a script once. Every
script becomes the function `work` between `undoing.lua` and `concluding.lua`: when Redis refuses one of its commands,
what the commands before it have changed is undone.

An include is text: its `local` names are visible from its line to the end of the block that holds the line, which may
be the body of a function. A second `-- include:` of the same name adds nothing, so the first one decides the block:
what two blocks need is included before both. `make lint` finds names that no block declares (`tools/lua_lint.py`).
"""

from __future__ import annotations

import functools
import hashlib
import pkgutil
import re
from dataclasses import dataclass

_INCLUDE = re.compile(r"^-- include: (\w+)$", re.MULTILINE)
_BODY = re.compile(r"^(?!-- (?!include: ))(?!--$)", re.MULTILINE)
_FRAME = "{}-- include: undoing\nlocal function work()\n{}\nend\n-- include: concluding\n"


@dataclass(frozen=True, slots=True)
class Script:
    """A script as it is sent: `sha` for EVALSHA, `source` for the one EVAL after `NOSCRIPT`."""

    name: str
    source: str
    sha: str


@functools.cache
def load(name: str) -> Script:
    """Return the script `lua/<name>.lua` with its includes. Raises FileNotFoundError when there is none."""
    included: set[str] = set()

    def expand(match: re.Match[str]) -> str:
        part = match.group(1)
        if part in included:
            return ""
        included.add(part)
        return _INCLUDE.sub(expand, _read(f"includes/{part}.lua"))

    text = _read(f"{name}.lua")
    first = _BODY.search(text)
    assert first is not None
    source = _INCLUDE.sub(expand, _FRAME.format(text[: first.start()], text[first.start() :]))
    return Script(name, source, hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest())


def names() -> list[str]:
    """Names of all scripts, sorted."""
    # Imported here: it costs a worker's start as much as a hundred scripts, and only tools ask for the names.
    from importlib import resources

    folder = resources.files("toril.engine") / "lua"
    return sorted(entry.name.removesuffix(".lua") for entry in folder.iterdir() if entry.name.endswith(".lua"))


def _read(path: str) -> str:
    text = pkgutil.get_data("toril.engine", f"lua/{path}")
    assert text is not None
    return text.decode()
