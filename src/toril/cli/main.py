"""The entry point: runs one command and turns an error into one line and an exit code.

Imports nothing but the standard library until a command is known, so that a missing extra gets a clear answer.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from toril import errors
from toril.cli import output
from toril.cli.output import ExitCode

_EXTRA_OF_MODULE = {"click": "cli", "rich": "cli", "yaml": "cli", "jsonschema": "cli"}
"""Top-level module → the extra of ours that brings it."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run `toril ARGUMENTS…` (default: the process's own) and return the exit code."""
    chosen = sys.argv[1:] if arguments is None else list(arguments)
    if chosen[:2] == ["worker", "run"]:
        from toril.worker import init

        # Before all other imports: `toril worker run` may be the command of a container, as its process 1.
        init.stay_behind()
    try:
        from toril.cli import tree

        return tree.run(chosen)
    except ModuleNotFoundError as problem:
        extra = _EXTRA_OF_MODULE.get((problem.name or "").split(".")[0])
        if extra is None:
            raise
        output.error(f"the Python package {problem.name} is not installed; run: pip install 'toril[{extra}]'")
        return ExitCode.FAILED
    except errors.TorilError as problem:
        output.error(output.printable(str(problem)))
        return output.exit_code_of(problem)
    except KeyboardInterrupt:
        output.note("interrupted")
        return ExitCode.INTERRUPTED
    except BrokenPipeError:
        # The reader of our output is gone (`toril … | head`): end quietly, also when Python flushes at its exit.
        output.leave(sys.stdout)
        return ExitCode.OK
    except OSError as problem:
        output.error(f"{problem.filename or 'the output'}: {problem.strerror}")
        output.leave(sys.stdout)
        return ExitCode.FAILED


if __name__ == "__main__":
    sys.exit(main())
