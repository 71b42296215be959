"""Folders for what a test run writes."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from pathlib import Path


def run_folder(prefix: str) -> Path:
    """A new folder that is there until the end of the run, so that a failed test can show what is in it."""
    folder = Path(tempfile.mkdtemp(prefix=prefix))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder
