"""Container images without a registry: base images from Debian packages, ours from Dockerfiles, both with buildah.

    base = ensure_base_image()
    build_image(folder, "localhost/toril/worker:test", dockerfile=file, build_args={"BASE_IMAGE": base})
    load_image(cluster, "localhost/toril/worker:test")

What belongs here: making images and bringing them to a node. Base images are made once a machine and kept in the
cache folder, in a storage of their own: the machine's images and containers are never touched. Pods use them with
`imagePullPolicy: IfNotPresent`.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from support.cluster_build import cache_folder, digest, ensure_pause_program, locked, run_with_progress, say
from support.cluster_errors import UnavailableError
from support.cluster_processes import missing_programs

if TYPE_CHECKING:
    from support.cluster import Cluster

RELEASE = "trixie"
"""Debian's release of the base images; its Python is 3.13."""
PYTHON_PACKAGES = ("python3", "python3-venv", "python3-pip", "ca-certificates")
REDIS_PACKAGES = ("redis-server",)
REDIS_COMMAND = ("redis-server", "--bind", "0.0.0.0", "--protected-mode", "no", "--save", "")
ANY_USER = 65532
"""Nobody's user id, for images that need no root."""


def ensure_base_image() -> str:
    """Tag of an image with Debian's Python, venv, pip and CA certificates: the `BASE_IMAGE` of our Dockerfiles."""
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
        if not has_image(tag):
            with tempfile.TemporaryDirectory(prefix="toril-image-") as context:
                shutil.copy(program, context)
                (Path(context) / "Dockerfile").write_text("\n".join(lines) + "\n")
                build_image(Path(context), tag)
    return tag


def build_image(
    context: Path, tag: str, *, dockerfile: Path | None = None, build_args: Mapping[str, str] | None = None
) -> str:
    """Build an image as `docker build` would, and answer with its tag.

    Args:
        context: the folder that COPY reads from.
        tag: full name, `localhost/…:…`; an image that had it before is removed.
        dockerfile: default `Dockerfile` in the context.
        build_args: values of its ARGs.

    Raises:
        UnavailableError: not root on Linux, or buildah is missing.
        ClusterError: the build failed; shows the end of its output.
    """
    require_image_tools()
    started = time.monotonic()
    arguments = [f"--build-arg={name}={value}" for name, value in (build_args or {}).items()]
    where = ["--file", str(dockerfile or context / "Dockerfile"), str(context)]
    argv = buildah("build", "--quiet", "--pull-never", *arguments, "--tag", tag, *where)
    run_with_progress(argv, f"building image {tag}", cwd=context, env={**os.environ, "BUILDAH_ISOLATION": "chroot"})
    subprocess.run(buildah("rmi", "--prune"), capture_output=True)
    say(f"built image {tag} in {time.monotonic() - started:.1f} s")
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
    """Like `load_image`, for the containerd whose socket is in `folder`."""
    for tag in tags:
        started = time.monotonic()
        archive = folder / "image.oci.tar"
        push = buildah("push", "--quiet", tag, f"oci-archive:{archive}:{tag}")
        run_with_progress(push, f"packing {tag}", cwd=folder)
        size = archive.stat().st_size
        run_with_progress([*ctr(folder), "images", "import", str(archive)], f"loading {tag}", cwd=folder)
        archive.unlink()
        say(f"loaded {tag} ({size / 1e6:.0f} MB) in {time.monotonic() - started:.1f} s")


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
    """A buildah command on our own storage. Its mounts live in a namespace of their own and end with it."""
    folder = images_folder()
    storage = ["--root", str(folder / "storage"), "--runroot", str(folder / "run")]
    return ["unshare", "--mount", "buildah", *storage, *argv]


def has_image(tag: str) -> bool:
    require_image_tools()
    return subprocess.run(buildah("inspect", "--type=image", tag), capture_output=True).returncode == 0


def require_image_tools() -> None:
    """Raise UnavailableError when images cannot be built here."""
    missing = missing_programs("buildah", "debootstrap", "unshare") if os.geteuid() == 0 else ["root"]
    if missing:
        raise UnavailableError(f"building images needs {', '.join(missing)}")


def _ensure_debian_image(name: str, packages: Sequence[str], lines: Sequence[str]) -> str:
    """An image of a minimal Debian with `packages`, made when no image of the same recipe is there."""
    require_image_tools()
    recipe = ["FROM scratch", "ADD root.tar /", *lines]
    tag = f"localhost/toril-test/{name}:{digest([RELEASE, *packages, *recipe], [])}"
    with locked(images_folder() / f"{name}.lock", f"image {tag}"):
        if has_image(tag):
            return tag
        say(f"making image {tag} from Debian packages (about a minute)")
        with tempfile.TemporaryDirectory(prefix="toril-image-") as context:
            root = Path(context) / "root"
            flags = ["--variant=minbase", f"--include={','.join(packages)}"]
            strap = ["unshare", "--mount", "debootstrap", *flags, RELEASE, str(root)]
            run_with_progress(strap, f"debootstrap of {name}", cwd=Path(context))
            # An archive keeps owners and modes, which COPY of a folder would not.
            archive = ["tar", "-C", str(root), "--exclude=./var/cache/apt/archives/*.deb", "-cf", "root.tar", "."]
            run_with_progress(archive, f"packing {name}", cwd=Path(context))
            shutil.rmtree(root)
            (Path(context) / "Dockerfile").write_text("\n".join(recipe) + "\n")
            build_image(Path(context), tag)
    return tag
