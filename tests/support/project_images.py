"""The images that the project ships, built from this checkout for a test cluster."""

from __future__ import annotations

import subprocess
from typing import NamedTuple

from support import cluster_images
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
