"""The fenced blocks of this repository's Markdown files, for tests that hold them to their word."""

from __future__ import annotations

import re
import shlex
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
_FENCE = re.compile(r"^ *```(?P<language>\w*)[^\n`]*\n(?P<text>.*?)^ *```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True, slots=True)
class Block:
    """One fenced block and where it stands."""

    file: Path
    line: int
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.file.relative_to(ROOT)}:{self.line}"


def pages() -> list[Path]:
    """Every Markdown file that people read."""
    found = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("operator/*.md"), *ROOT.glob("charts/**/*.md")]
    return sorted(found)


def blocks(file: Path) -> list[Block]:
    """The blocks of one file, in order."""
    text = file.read_text()
    found = []
    for match in _FENCE.finditer(text):
        line = text.count("\n", 0, match.start()) + 1
        found.append(Block(file, line, match["language"], textwrap.dedent(match["text"])))
    return found


def all_blocks(*languages: str) -> list[Block]:
    """The blocks of all pages in these languages."""
    return [block for page in pages() for block in blocks(page) if block.language in languages]


def commands(block: Block) -> Iterator[list[str]]:
    """The commands of a shell block as words; continued lines joined, comments, here-documents and outputs left out."""
    text = re.sub(r"\\\n\s*", " ", block.text)
    # Only what is between the marks, not the command that gets it.
    text = re.sub(r"<<'?(\w+)'?(.*)\n(?:.*\n)*?\1\n", r"\2\n", text)
    for line in text.splitlines():
        for part in re.split(r"\s(?:\||&&)\s", line):
            if words := shlex.split(part, comments=True):
                yield words
