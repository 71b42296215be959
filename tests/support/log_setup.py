"""The set-up of this process's log, put back after a test that changes it."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def kept() -> Iterator[None]:
    """Inside, the root logger has no handlers at first; afterwards all loggers are as before."""
    root = logging.getLogger()
    loggers = [root, *(each for each in root.manager.loggerDict.values() if isinstance(each, logging.Logger))]
    before = [(each, each.level, each.handlers[:], each.propagate, each.disabled) for each in loggers]
    root.handlers = []
    try:
        yield
    finally:
        for each, level, handlers, propagate, is_disabled in before:
            each.setLevel(level)
            each.handlers, each.propagate, each.disabled = handlers, propagate, is_disabled
