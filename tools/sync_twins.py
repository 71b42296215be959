"""Writes the classes for code without an event loop, `src/toril/client/sync/`, from the modules of `src/toril/client/`.

A twin is the source with other words: no `async`, no `await`, `self.client.add_sync` for `self.client.add`, and the
names of the twins. Members named `sync` and functions without `async` are left out, since a twin needs neither.

    python tools/sync_twins.py            write the twins
    python tools/sync_twins.py --check    exit with 1 when a twin is stale
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
SOURCES = ROOT / "src/toril/client"
TWINS = SOURCES / "sync"
MODULES = ("adding", "control", "flows", "handle", "limits", "schedulers")
CLASSES = ("AddMethods", "ControlMethods", "Flow", "JobHandle", "LimitMethods", "Schedulers")
RUFF = str(Path(sys.executable).with_name("ruff"))


def in_sync_words(text: str) -> str:
    """Replace the words of the asynchronous side by those of the synchronous one, in code and in docstrings."""
    text = re.sub(r"\basync def\b", "def", text)
    text = re.sub(r"await ((?:[\w\[\]]+\.)+client)\.(add|execute|result)\(", r"\1.\2_sync(", text)
    text = text.replace("await queue.", "queue.sync.").replace("`queue.schedulers`", "`queue.sync.schedulers`")
    text = re.sub(r"\bawait ", "", text)
    text = re.sub(rf"(?<!Job )\b({'|'.join(CLASSES)})\b", r"Sync\1", text)
    text = re.sub(r"\badd_flows\b", "add_flows_sync", text)
    text = text.replace("Methods of `Queue`.", "Methods of `queue.sync`.")
    return re.sub(rf"from toril\.client\.({'|'.join(MODULES)}) import", r"from toril.client.sync.\1 import", text)


def twin_of(module: str) -> str:
    """The text of one twin."""
    source = (SOURCES / f"{module}.py").read_text()
    kept = _without_sync_parts(source)
    docstring = ast.get_docstring(ast.parse(source), clean=False)
    if docstring is None:
        raise SystemExit(f"{module}.py has no docstring")
    head = f'"""The twin of `toril.client.{module}`, for code without an event loop. Written by tools/sync_twins.py."""'
    text = head + in_sync_words(kept.replace(f'"""{docstring}"""', "", 1))
    for command in (["check", "--quiet", "--fix", "--select", "F401,I"], ["format", "--quiet"]):
        text = subprocess.run(
            [RUFF, *command, "--stdin-filename", str(TWINS / f"{module}.py"), "-"],
            input=text, capture_output=True, text=True, check=True, cwd=ROOT,
        ).stdout  # fmt: skip
    return text


def _without_sync_parts(source: str) -> str:
    tree = ast.parse(source)
    doomed = [node for node in tree.body if isinstance(node, ast.FunctionDef)]
    for each in tree.body:
        if isinstance(each, ast.ClassDef):
            doomed += [node for node in each.body if isinstance(node, ast.FunctionDef) and node.name == "sync"]
    lines = source.splitlines(keepends=True)
    for node in doomed:
        first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
        for number in range(first - 1, node.end_lineno or first):
            lines[number] = ""
    kept = "".join(line for line in lines if "import Sync" not in line)
    return re.sub(r"^if TYPE_CHECKING:\n(?! )", "", kept, flags=re.MULTILINE)


def main() -> int:
    stale = [module for module in MODULES if _read(module) != twin_of(module)]
    if "--check" in sys.argv[1:]:
        for module in stale:
            print(f"src/toril/client/sync/{module}.py is stale: run `make sync`", file=sys.stderr)
        return 1 if stale else 0
    for module in stale:
        (TWINS / f"{module}.py").write_text(twin_of(module))
    return 0


def _read(module: str) -> str | None:
    path = TWINS / f"{module}.py"
    return path.read_text() if path.exists() else None


if __name__ == "__main__":
    sys.exit(main())
