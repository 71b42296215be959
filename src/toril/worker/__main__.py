"""`python -m toril.worker`: a worker told by its environment. Exit codes: 0 drained, 1 it broke, 2 wrong settings."""

from __future__ import annotations

import os
import sys

from toril.worker import init, signals


def main() -> int:
    # Before all other imports, which take most of a start's time.
    init.stay_behind()
    signals.leave_at_once()
    from toril.worker import process

    return process.run_from_environment(os.environ)


if __name__ == "__main__":
    sys.exit(main())
