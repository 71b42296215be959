"""Each import rule catches what breaks it: it is broken in a copy of the sources, and the linter must say so."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from support import documents

ROOT = documents.ROOT
LINTER = Path(sys.executable).with_name("lint-imports")
BREACHES = [
    ("src/toril/client/flows.py", "import redis", "only the engine talks to Redis"),
    ("src/toril/worker/fetcher.py", "import hiredis", "only the engine talks to Redis"),
    ("operator/src/toril_operator/labels.py", "import redis", "only the engine talks to Redis"),
    ("src/toril/client/schedulers.py", "import kubernetes", "only kube and kube_access know Kubernetes"),
    ("operator/src/toril_operator/watcher.py", "import kubernetes", "only kube and kube_access know Kubernetes"),
    ("operator/src/toril_operator/metrics.py", "import kopf", "kopf only watches"),
    ("src/toril/client/draft.py", "from toril.tasks import task", "toril has layers"),
    ("src/toril/tasks/task.py", "from toril import queue", "toril has layers"),
    ("src/toril/engine/keys.py", "from toril import queue", "toril has layers"),
    ("src/toril/telemetry/logs.py", "from toril import clock, kube", "toril has layers"),
    ("src/toril/jobs/job.py", "import asyncio", "the pure parts know no I/O and no clock"),
]


@pytest.mark.parametrize(("file", "line", "contract"), BREACHES, ids=[f"{file}: {line}" for file, line, _ in BREACHES])
def test_a_forbidden_import_breaks_its_contract(tmp_path: Path, file: str, line: str, contract: str) -> None:
    for folder in ("src", "operator/src"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    broken = tmp_path / file
    # After the docstring and `from __future__`, which must stay first.
    broken.write_text(broken.read_text().replace("annotations\n", f"annotations\n{line}\n", 1))
    told = subprocess.run(
        [LINTER, "--no-cache"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(str(tmp_path / part) for part in ("src", "operator/src"))},
        capture_output=True,
        text=True,
    )
    assert told.returncode == 1, told.stdout + told.stderr
    assert re.search(rf"^{re.escape(contract)} BROKEN", told.stdout, re.MULTILINE), told.stdout
