"""What the Kubernetes fixtures of `tests/kube` and `tests/e2e` share: one cluster a process.

Starting may take minutes on a machine that never did (programs are compiled, base images made), so the start's
progress is shown although pytest captures output, and the time limit of a test does not count its fixtures
(`timeout_func_only`): every wait of the start has a limit of its own.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

import pytest

from support.cluster import Cluster
from support.cluster_errors import UnavailableError


def session_cluster(request: pytest.FixtureRequest, start: Callable[[], Cluster]) -> Iterator[Cluster]:
    """The body of a session fixture: a cluster made by `start`, ended with the run; the tests are skipped where none
    can run, with the reason."""
    with visible_output(request):
        try:
            cluster = start()
        except UnavailableError as error:
            pytest.skip(f"not run: {error}")
    with cluster:
        yield cluster


def visible_output(request: pytest.FixtureRequest) -> contextlib.AbstractContextManager[None]:
    """While this is open, what is printed reaches the terminal."""
    capture = request.config.pluginmanager.getplugin("capturemanager")
    if capture is None:
        return contextlib.nullcontext()
    shown: contextlib.AbstractContextManager[None] = capture.global_and_fixture_disabled()
    return shown
