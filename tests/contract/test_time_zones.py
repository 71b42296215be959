"""The images' time zones are those of the package in the lock file."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib

import pytest
import tzdata

from support.documents import ROOT

IMAGES = ("worker-image/Dockerfile", "operator/Dockerfile")


@pytest.mark.parametrize("image", IMAGES)
def test_an_image_reads_no_zones_of_its_base(image: str) -> None:
    last_stage = (ROOT / image).read_text().split("\nFROM ")[-1]
    assert re.search("^ENV PYTHONTZPATH=$", last_stage, re.MULTILINE)


@pytest.mark.parametrize("lock", ["worker", "operator", "lock"])
def test_the_locks_hold_the_package(lock: str) -> None:
    dependencies = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    assert any(each.startswith("tzdata") for each in dependencies)
    assert re.search(r"^tzdata==", (ROOT / "requirements" / f"{lock}.txt").read_text(), re.MULTILINE)


def test_with_the_images_setting_zones_come_from_the_package() -> None:
    code = "from toril.telemetry import zone_data; from toril.jobs import time_zones; "
    code += "print(time_zones.find('europe/berlin'), zone_data.describe())"
    environ = {**os.environ, "PYTHONTZPATH": ""}
    told = subprocess.run([sys.executable, "-c", code], env=environ, capture_output=True, text=True, check=True)
    assert told.stdout.strip() == f"Europe/Berlin {tzdata.IANA_VERSION} of the package tzdata"
