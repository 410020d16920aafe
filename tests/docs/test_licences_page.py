"""The page of licences is what the installed distributions say, without a network."""

import platform
from importlib import metadata

import pytest

from tests.support import licences_page

HERE = (platform.system(), platform.machine(), platform.python_version_tuple()[:2])
pinned = pytest.mark.skipif(HERE != ("Linux", "x86_64", ("3", "11")), reason="other systems need other distributions")


@pinned
def test_the_page_is_current() -> None:
    assert licences_page.PAGE.read_text() == licences_page.page(), "python -m tests.support.licences_page"


@pinned
def test_the_versions_are_the_installed_ones() -> None:
    names = set().union(*map(licences_page.closure, licences_page.project()))
    installed = {name: metadata.version(name).partition("+")[0] for name in names}  # torch 2.13.0+cpu
    assert installed == {name: licences_page.pins()[name] for name in names}


@pinned
def test_every_licence_is_stated_and_the_core_brings_two() -> None:
    assert "not stated" not in licences_page.PAGE.read_text()
    assert licences_page.closure("core") == {"array-api-compat", "numpy"}
    assert "torch" in licences_page.closure("torch")
    assert not licences_page.closure("jax") & {"torch", "tensorflow"}
