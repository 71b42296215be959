"""Fixtures with a real Kubernetes. Programs and images are made before the first test, outside its time limit."""

from __future__ import annotations
