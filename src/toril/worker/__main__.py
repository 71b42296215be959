"""`python -m toril.worker`: a worker told by its environment. Exit codes: 0 drained, 1 it broke, 2 wrong settings."""

from __future__ import annotations

import os
import sys


def main() -> int:
    from toril.worker import process

    return process.run_from_environment(os.environ)


if __name__ == "__main__":
    sys.exit(main())
