"""Make the container images: the wheels they are installed from, then the images themselves.

    python tools/images.py wheels     fills build/wheels; the only step that needs a network
    python tools/images.py build      builds the images from it, with buildah if it is there, else with docker

Tests import `ensure_wheels`, `build_image` and `build_images`, so that they run exactly what is shipped.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import platform
import shutil
import subprocess
import sys
import time
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
WHEELS = ROOT / "build" / "wheels"
VENV_BIN = ROOT / ".venv" / "bin"
IMAGE_PYTHON = "3.13"
"""The Python of the images' base; the wheels are for it, not for the Python that runs this file."""
LOCKS = (ROOT / "requirements" / "operator.txt", ROOT / "requirements" / "worker.txt")


class BuildError(Exception):
    """A wheel or an image could not be made; the message says which and why."""


def say(text: str) -> None:
    print(f"images: {text}", flush=True)


def run(what: str, argv: Sequence[object], env: Mapping[str, str] | None = None) -> str:
    """Run a command and return what it printed.

    Raises:
        BuildError: it ended with another code than 0; with the end of its output.
    """
    done = subprocess.run([str(part) for part in argv], cwd=ROOT, env=env, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise BuildError(f"{what} failed with code {done.returncode}:\n{(done.stdout + done.stderr)[-4000:]}")
    return done.stdout


def version() -> str:
    """The project's version, which is also its images' tag."""
    found: str = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    return found


def ensure_wheels() -> Path:
    """Fill `build/wheels` with every locked package for the images' Python, and with this checkout's own wheel.

    Packages are fetched only when the locks have changed; our own wheel is built each time.

    Returns:
        The folder.
    """
    started = time.monotonic()
    # A Mac calls the processor of its Linux containers by another name.
    machine = {"arm64": "aarch64"}.get(platform.machine(), platform.machine())
    stamp = WHEELS / ".stamp"
    wanted = hashlib.sha256(b"\0".join([machine.encode(), *(lock.read_bytes() for lock in LOCKS)])).hexdigest()
    if not stamp.is_file() or stamp.read_text() != wanted:
        shutil.rmtree(WHEELS, ignore_errors=True)
        WHEELS.mkdir(parents=True)
        for lock in LOCKS:
            say(f"fetching the wheels of {lock.relative_to(ROOT)} for Python {IMAGE_PYTHON} on {machine}")
            run(f"pip download for {lock.name}", _download_command(lock, machine))
        stamp.write_text(wanted)
    for old in WHEELS.glob("toril-*.whl"):
        old.unlink()
    build = [VENV_BIN / "uv", "build", "--quiet", "--system-certs", "--wheel", "--no-create-gitignore"]
    run("building our own wheel", [*build, "--out-dir", WHEELS])
    count = len(list(WHEELS.glob("*.whl")))
    say(f"{count} wheels in {WHEELS.relative_to(ROOT)} after {time.monotonic() - started:.0f} s")
    return WHEELS


def _download_command(lock: Path, machine: str) -> list[object]:
    pip = [VENV_BIN / "python", "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
    target = ["--only-binary", ":all:", "--python-version", IMAGE_PYTHON]
    for name in ("manylinux2014", "manylinux_2_28"):
        target += ["--platform", f"{name}_{machine}"]
    # The lock is complete; looking for dependencies would only look again.
    return [*pip, *target, "--no-deps", "--require-hashes", "--dest", WHEELS, "-r", lock]


def find_builder() -> list[str]:
    """The command of `buildah` if it is there, else of `docker`.

    Raises:
        BuildError: neither is.
    """
    for name in ("buildah", "docker"):
        if shutil.which(name):
            return [name]
    raise BuildError("neither buildah nor docker is here: install one of them to build images")


def build_image(
    context: Path,
    tag: str,
    *,
    dockerfile: Path | None = None,
    build_args: Mapping[str, str] | None = None,
    builder: Sequence[str] | None = None,
) -> str:
    """Build one image as `docker build` does; nothing is fetched but a base image that is not here yet.

    Args:
        context: the folder whose files the Dockerfile may copy.
        dockerfile: default `Dockerfile` in the context.
        build_args: values for its `ARG` lines.
        builder: a buildah or docker command with its general options; None = what is found.

    Returns:
        `tag`.

    Raises:
        BuildError: no builder, or the build failed; with the end of its output.
    """
    started, command, env = time.monotonic(), list(builder or find_builder()), dict(os.environ)
    if os.geteuid() == 0:
        # The isolation of buildah that also works inside a container without user namespaces.
        env.setdefault("BUILDAH_ISOLATION", "chroot")
    args = [f"--build-arg={name}={value}" for name, value in (build_args or {}).items()]
    files = ["--file", dockerfile or context / "Dockerfile", "--tag", tag, context]
    run(f"building {tag}", [*command, "build", *args, *files], env)
    say(f"built {tag} in {time.monotonic() - started:.0f} s")
    return tag


def build_images(
    base_image: str | None = None, *, registry: str = "", builder: Sequence[str] | None = None
) -> tuple[str, str, str]:
    """Build all images of ours from `build/wheels`, which must have been filled.

    Args:
        base_image: an image with Python 3.13, its `venv` and pip; None = the Dockerfiles' default.
        registry: first part of their names, as the chart's `image.registry`; empty = none.
        builder: as for `build_image`.

    Returns:
        The tags of operator, worker and example; each is the project's version.
    """
    if not list(WHEELS.glob("toril-*.whl")):
        raise BuildError("build/wheels is empty: run `make wheels` first")
    prefix = f"{registry}/toril" if registry else "toril"
    ours = {"VERSION": version()} | ({"BASE_IMAGE": base_image} if base_image else {})

    def build(name: str, context: Path, dockerfile: str, build_args: Mapping[str, str]) -> str:
        tag = f"{prefix}/{name}:{version()}"
        return build_image(context, tag, dockerfile=ROOT / dockerfile, build_args=build_args, builder=builder)

    operator = build("operator", ROOT, "operator/Dockerfile", ours)
    worker = build("worker", ROOT, "worker-image/Dockerfile", ours)
    example = ROOT / "examples" / "zettanote"
    return (
        operator,
        worker,
        build("example-zettanote", example, "examples/zettanote/Dockerfile", {"WORKER_IMAGE": worker}),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("wheels", help="fill build/wheels")
    build = commands.add_parser("build", help="build the images from build/wheels")
    build.add_argument("--base-image", help="an image with Python 3.13, instead of the Dockerfiles' default")
    options = parser.parse_args()
    try:
        if options.command == "wheels":
            ensure_wheels()
        else:
            build_images(options.base_image)
    except BuildError as problem:
        sys.exit(f"images: {problem}")


if __name__ == "__main__":
    main()
