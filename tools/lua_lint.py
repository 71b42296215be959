"""Checks the Lua scripts as they are sent, with their includes: syntax of Lua 5.1, and names that nothing declares.

    python -m tools.lua_lint         exit code 0 = nothing found, 1 = problems, each in a line, or no check was possible

A name is unknown where no `local` before it declares it in its scope, so an include that is missing, or comes too late,
is found here and not when a script reaches the line. Needs Node and luaparse of `tests/peers`.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from toril.engine import lua_loader

ROOT = Path(__file__).resolve().parent.parent
PEERS = ROOT / "tests" / "peers"
LUAPARSE = PEERS / "node_modules" / "luaparse"


def problems_in(sources: Mapping[str, str]) -> Iterator[str]:
    """One line for each problem in scripts by name: script, line of the expanded script and its text, what is wrong."""
    argv = ["node", str(ROOT / "tools" / "lua_lint.mjs")]
    done = subprocess.run(argv, cwd=PEERS, input=json.dumps(sources), capture_output=True, text=True, check=True)
    for name, line, problem in json.loads(done.stdout):
        text = sources[name].splitlines()[line - 1].strip() if line else ""
        yield f"{name}.lua with its includes, line {line}: {problem}: {text}"


def main() -> int:
    if shutil.which("node") is None or not LUAPARSE.exists():
        print(
            "lua_lint: the Lua scripts are not checked, since Node or its package luaparse is missing. "
            "Install Node 20 or newer, then run `make setup`, which installs luaparse",
            file=sys.stderr,
        )
        return 1
    found = list(problems_in({name: lua_loader.load(name).source for name in lua_loader.names()}))
    print("\n".join(found) if found else f"lua_lint: {len(lua_loader.names())} scripts, nothing found")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
