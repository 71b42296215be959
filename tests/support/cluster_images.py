"""Container images without a registry: base images made of Debian packages, and the way of any image to a node.

    base = {"BASE_IMAGE": ensure_base_image()}
    tag = images.build_image(context, "localhost/one:1", build_args=base, builder=buildah())
    load_image(cluster, tag)

Base images are made once a machine and kept in the cache folder; what a checkout builds of them (`tools/images.py` with
`buildah()` as its builder) is kept in its own `build/images`, so that checkouts do not overwrite each other's. The
machine's own images and containers are never touched. Pods use `imagePullPolicy: IfNotPresent`.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from support.cluster_build import ROOT, cache_folder, digest, ensure_pause_program, locked, run_with_progress, say
from support.cluster_errors import ClusterError, UnavailableError
from support.cluster_processes import missing_programs

if TYPE_CHECKING:
    from support.cluster import Cluster

RELEASE = "trixie"
"""Debian's release of the base images; its Python is 3.13."""
PYTHON_PACKAGES = ("python3", "python3-pip", "ca-certificates", "tini")
REDIS_PACKAGES = ("redis-server",)
REDIS_COMMAND = ("redis-server", "--bind", "0.0.0.0", "--protected-mode", "no", "--save", "")
ANY_USER = 65532
"""A user id that no account has, for images that need no root."""
UNNEEDED = (
    "usr/share/doc",
    "usr/share/info",
    "usr/share/locale",
    "usr/share/man",
    "var/cache/apt",
    "var/lib/apt/lists",
)
"""Folders that stay empty in a base image, as in slim ones of others; nearly half of what Debian's packages bring."""


def ensure_base_image() -> str:
    """Tag of an image with Debian's Python, venv, pip, CA certificates, tini: the `BASE_IMAGE` of our Dockerfiles."""
    return _ensure_debian_image("base", PYTHON_PACKAGES, [])


def ensure_redis_image() -> str:
    """Tag of an image that runs Debian's redis-server on port 6379, without a password, as a user without rights."""
    command = ", ".join(f'"{part}"' for part in REDIS_COMMAND)
    return _ensure_debian_image("redis", REDIS_PACKAGES, [f"USER {ANY_USER}", "WORKDIR /tmp", f"CMD [{command}]"])


def ensure_pause_image() -> str:
    """Tag of the image that holds a pod's namespaces."""
    program = ensure_pause_program()
    lines = ["FROM scratch", "COPY pause /pause", f"USER {ANY_USER}", 'ENTRYPOINT ["/pause"]']
    tag = f"localhost/toril-test/pause:{digest(lines, [program])}"
    with locked(images_folder() / "pause.lock", "the pause image"):
        if not _has_shared_image(tag):
            with tempfile.TemporaryDirectory(prefix="toril-image-") as context:
                shutil.copy(program, context)
                _build_shared(tag, Path(context), lines)
    return tag


def load_image(cluster: Cluster, *tags: str) -> None:
    """Make images known to the node of `cluster`.

    A cluster that was not started here must have them already: a line says which.

    Raises:
        ClusterError: no such image, or the node refused it.
    """
    if cluster.plane is None:
        say(f"a cluster of your own must know {', '.join(tags)} already")
        return
    load_images(cluster.plane.processes.folder, tags)


def load_images(folder: Path, tags: Sequence[str]) -> None:
    """Like `load_image`, for the containerd whose socket is in `folder`; two side by side, as packing and unpacking are
    one thread's work each."""

    def load(tag: str) -> None:
        started = time.monotonic()
        with tempfile.TemporaryDirectory(prefix="image-", dir=folder) as place:
            archive = Path(place) / "image.tar"
            # Docker's form is not compressed, which would take most of the time.
            push = buildah("push", "--quiet", tag, f"docker-archive:{archive}:{tag}")
            run_with_progress(push, f"packing {tag}", cwd=folder)
            size = archive.stat().st_size
            run_with_progress([*ctr(folder), "images", "import", str(archive)], f"loading {tag}", cwd=folder)
        say(f"loaded {tag} ({size / 1e6:.0f} MB) in {time.monotonic() - started:.1f} s")

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(load, tags))


def ctr(folder: Path) -> list[str]:
    """containerd's client for the node whose state is in `folder`, in the namespace that the kubelet uses."""
    return ["ctr", "--address", str(containerd_socket(folder)), "--namespace", "k8s.io"]


def containerd_socket(folder: Path) -> Path:
    return folder / "containerd.sock"


def images_folder() -> Path:
    folder = cache_folder() / "images"
    folder.mkdir(exist_ok=True)
    return folder


def buildah(*argv: str) -> list[str]:
    """A buildah command on this checkout's own images; it also knows those that are kept for all checkouts.

    Its mounts live in a namespace of their own and end with it.
    """
    folder = ROOT / "build" / "images"
    shared = ["--storage-driver", "overlay", "--storage-opt", f"overlay.imagestore={images_folder() / 'storage'}"]
    return [*_buildah(folder, *shared), *argv]


def require_image_tools() -> None:
    """Raise UnavailableError when images cannot be built here."""
    missing = missing_programs("buildah", "debootstrap", "unshare") if os.geteuid() == 0 else ["root"]
    if missing:
        raise UnavailableError(f"building images needs {', '.join(missing)}")


def _shared_buildah(*argv: str) -> list[str]:
    """Like `buildah`, on the images that are kept for all checkouts."""
    return [*_buildah(images_folder(), "--storage-driver", "overlay"), *argv]


def _buildah(folder: Path, *options: str) -> list[str]:
    storage = ["--root", str(folder / "storage"), "--runroot", str(folder / "run")]
    return ["unshare", "--mount", "buildah", *storage, *options]


def _has_shared_image(tag: str) -> bool:
    require_image_tools()
    return subprocess.run(_shared_buildah("inspect", "--type=image", tag), capture_output=True).returncode == 0


def _build_shared(tag: str, context: Path, lines: Sequence[str]) -> None:
    """Build an image of a Dockerfile with these lines, for all checkouts."""
    (context / "Dockerfile").write_text("\n".join(lines) + "\n")
    argv = _shared_buildah("build", "--quiet", "--pull-never", "--tag", tag, str(context))
    run_with_progress(argv, f"building image {tag}", cwd=context, env={**os.environ, "BUILDAH_ISOLATION": "chroot"})


def _ensure_debian_image(name: str, packages: Sequence[str], lines: Sequence[str]) -> str:
    """An image of a minimal Debian with `packages`, made when no image of the same recipe is there."""
    require_image_tools()
    recipe = ["FROM scratch", "ADD root.tar /", *lines]
    tag = f"localhost/toril-test/{name}:{digest([RELEASE, *packages, *UNNEEDED, *recipe], [])}"
    with locked(images_folder() / f"{name}.lock", f"image {tag}"):
        if _has_shared_image(tag):
            return tag
        say(f"making image {tag} from Debian packages (about a minute)")
        with tempfile.TemporaryDirectory(prefix="toril-image-") as context:
            root = Path(context) / "root"
            flags = ["--variant=minbase", f"--include={','.join(packages)}"]
            strap = ["unshare", "--mount", "debootstrap", *flags, RELEASE, str(root)]
            try:
                run_with_progress(strap, f"debootstrap of {name}", cwd=Path(context))
            except ClusterError as error:
                raise UnavailableError(f"Debian's packages cannot be had here: {error}") from error
            # An archive keeps owners and modes, which COPY of a folder would not.
            left_out = [f"--exclude=./{folder}/*" for folder in UNNEEDED]
            archive = ["tar", "-C", str(root), *left_out, "-cf", "root.tar", "."]
            run_with_progress(archive, f"packing {name}", cwd=Path(context))
            shutil.rmtree(root)
            _build_shared(tag, Path(context), recipe)
    return tag


def main() -> None:
    """Make the images that tests start from, so that no test waits for them."""
    try:
        for ensure in (ensure_pause_image, ensure_base_image, ensure_redis_image):
            ensure()
    except UnavailableError as error:
        say(f"not available: {error}")


if __name__ == "__main__":
    main()
