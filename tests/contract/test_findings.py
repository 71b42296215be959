"""The table of findings names each script, and each script keeps to the rules that the page promises."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from support.documents import ROOT

FOLDER = ROOT / "findings"
SCRIPTS = sorted(path for path in FOLDER.glob("*.sh") if path.name != "lib.sh")


def test_the_table_has_a_row_for_each_script() -> None:
    rows = re.findall(r"^\| \[([\w-]+)\]\(([\w.-]+)\) \|", (FOLDER / "README.md").read_text(), re.MULTILINE)
    assert [file for _, file in rows] == [path.name for path in SCRIPTS]
    assert [f"{name}.sh" for name, _ in rows] == [path.name for path in SCRIPTS]


@pytest.mark.parametrize("script", [*SCRIPTS, FOLDER / "lib.sh"], ids=lambda path: path.stem)
def test_a_script_is_valid_bash(script: Path) -> None:
    bash = shutil.which("bash")
    assert bash
    subprocess.run([bash, "-n", str(script)], check=True, timeout=60)


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_a_script_pins_what_it_installs_and_can_be_run(script: Path) -> None:
    text = script.read_text().replace("\\\n", " ")
    installed = re.findall(r"^(?:npm|pip)_packages (.+)$", text, re.MULTILINE)
    assert installed
    for package in " ".join(installed).split():
        assert re.fullmatch(r"[@/\w.-]+(?:@npm:[\w.-]+)?(?:@|==)\d+\.\d[\w.]*", package), package
    assert os.access(script, os.X_OK)
