"""Replace this process by a command that the kernel ends with its parent, however the parent ends.

Run by path in an isolated interpreter (`python -I -S child.py PARENT_PID COMMAND …`): a hook between fork and exec
would run Python code in a copy of a process that may have threads.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def guarded(*command: str) -> list[str]:
    """The command line under which the kernel ends `command` together with this process (on Linux)."""
    return [sys.executable, "-I", "-S", __file__, str(os.getpid()), *command]


def main() -> None:
    parent, command = int(sys.argv[1]), sys.argv[2:]
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        # The parent may have ended before `prctl` was called.
        if os.getppid() != parent:
            sys.exit(1)
    os.execvp(command[0], command)  # noqa: S606 - the command comes from this package


if __name__ == "__main__":
    main()
