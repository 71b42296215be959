"""The images that the project ships, built from this checkout for a test cluster."""

from __future__ import annotations

import contextlib
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from support import cluster_images
from support.cluster_build import ROOT, locked
from support.cluster_errors import ClusterError
from tools import images

REGISTRY = "localhost"
"""What the chart's `image.registry` must be for them."""


class Tags(NamedTuple):
    """Full names of the images."""

    operator: str
    worker: str
    example: str
    """ZettaNote's workers."""


def build_once(run: str) -> Tags:
    """`build`, done by the first of a test run's processes that asks; the others wait for it.

    Args:
        run: what the processes of one test run have in common, and no other run has.
    """
    with building() as folder:
        done = folder / "built.json"
        built = json.loads(done.read_text()) if done.is_file() else {}
        if built.get("run") != run:
            built = {"run": run, "tags": build()}
            done.write_text(json.dumps(built))
    return Tags(*built["tags"])


@contextlib.contextmanager
def building() -> Iterator[Path]:
    """Keep other processes from building images of this checkout meanwhile; yields the folder that they are kept in."""
    folder = ROOT / "build" / "images"
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder / "building.lock", "this checkout's images"):
        yield folder


def build() -> Tags:
    """Build them with the wheels of this checkout's locks; newer ones take the tags of older ones.

    Raises:
        UnavailableError: images cannot be built here.
        ClusterError: a build failed, or the wheels cannot be fetched.
    """
    base = cluster_images.ensure_base_image()
    try:
        images.ensure_wheels()
        tags = Tags(*images.build_images(base, registry=REGISTRY, builder=cluster_images.buildah()))
    except images.BuildError as error:
        raise ClusterError(str(error)) from error
    subprocess.run(cluster_images.buildah("rmi", "--prune"), capture_output=True)
    return tags
