"""Scenarios with two lengths: a short one in every run, and a long one in `make soak`."""

from __future__ import annotations

import os
from typing import Any

import pytest

SCALE = float(os.environ.get("SOAK_SCALE") or 1)
"""Share of the full length: `SOAK_SCALE=0.1 make soak` runs a tenth."""


def scaled(full: float) -> int:
    """A count of a long run, at least 1."""
    return max(1, round(full * SCALE))


def lengths(short: float, full: float) -> list[Any]:
    """Parameters for `pytest.mark.parametrize`: the short length, and the full one under the marker `soak`."""
    return [pytest.param(short, id="short"), pytest.param(scaled(full), id="soak", marks=pytest.mark.soak)]
