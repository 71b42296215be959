"""Resolve the dependencies into requirements/*.txt: one universal lock, hashes, no index addresses."""

from __future__ import annotations

import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
UV = ROOT / ".venv" / "bin" / "uv"
COMMON = [
    "--universal", "--generate-hashes", "--no-header", "--no-emit-index-url", "--no-annotate", "--quiet",
    "--system-certs",
]  # fmt: skip


def compile_lock(output: str, *inputs: str) -> None:
    """Write requirements/<output> from `inputs` (arguments of `uv pip compile`)."""
    argv = [str(UV), "pip", "compile", *COMMON, "--python-version", "3.11", "--output-file", output, *inputs]
    subprocess.run(argv, cwd=ROOT / "requirements", check=True)
    print(f"lock: requirements/{output}")


def main() -> None:
    project = "../pyproject.toml"
    compile_lock("lock.txt", project, "--all-extras", "--no-emit-package", "toril")
    compile_lock("tools.txt", "tools.in")
    # What goes into the images: the same versions, only what each needs.
    compile_lock("worker.txt", project, "--extra", "fast", "-c", "lock.txt")
    compile_lock("operator.txt", project, "--extra", "operator", "--no-emit-package", "toril", "-c", "lock.txt")


if __name__ == "__main__":
    main()
