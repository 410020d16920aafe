"""Hypothesis profiles, and what a missing framework means: a skip at a desk, a failure in continuous integration."""

import importlib.util
import os
from pathlib import Path

import pytest
from hypothesis import settings

FRAMEWORKS = {"torch": "torch", "jax": "jax", "tf": "tensorflow", "triton": "triton"}

settings.register_profile("default", deadline=None, derandomize=True, max_examples=60)
settings.load_profile("default")


def pytest_ignore_collect(collection_path: Path) -> bool | None:
    """Leave out the tests and sources of a framework that is not installed, and the documentation without Sphinx."""
    folder = {part.removeprefix("cbcore_") for part in collection_path.parts[-3:]}
    if "docs" in folder and importlib.util.find_spec("sphinx") is None:
        return True  # `make docs` builds the site before it tests it, so nothing is passed over there
    if collection_path.name == "_triton.py":
        folder.add("triton")
    missing = [f for f, module in FRAMEWORKS.items() if f in folder and importlib.util.find_spec(module) is None]
    if not missing:
        return None
    if os.environ.get("CI"):
        pytest.exit(f"{missing[0]} is not installed: in continuous integration that is a failure", returncode=1)
    return True
