"""The command line starts quickly: help imports nothing that only commands need."""

from __future__ import annotations

import subprocess
import sys

HEAVY = {
    "rich",
    "jsonschema",
    "yaml",
    "redis",
    "prometheus_client",
    "kubernetes",
    "kopf",
    "toril.engine.redis.connection",
}


def test_help_imports_nothing_heavy() -> None:
    script = (
        "import sys; from toril.cli.main import main; code = main(['--help']); "
        "print(*sys.modules, file=sys.stderr); sys.exit(code)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert [line.split()[0] for line in done.stdout.splitlines()[-3:]] == ["dev", "job", "worker"]
    assert not HEAVY & set(done.stderr.split())


def test_a_missing_extra_is_named() -> None:
    script = "import sys; sys.modules['click'] = None; from toril.cli.main import main; sys.exit(main(['--help']))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr == "toril: the Python package click is not installed; run: pip install 'toril[cli]'\n"
