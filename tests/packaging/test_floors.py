"""What pyproject.toml admits is what `make floors` tests."""

import pytest

from tests.packaging import floors

PINS = dict(line.split("==") for line in floors.FLOORS.read_text().splitlines() if line and not line.startswith("#"))
FOLLOWERS = {"jaxlib"}  # pip would choose its newest otherwise
ONLY_HERE = {
    "torch": "2.13.0"
}  # the one version that continuous integration can afford; see docs/reference/versions.md


@pytest.mark.parametrize("name", floors.RUNS)
def test_the_lowest_versions_are_the_ones_that_are_tested(name: str) -> None:
    stated = floors.required("core") | floors.required(name)
    assert stated
    assert {package: PINS[package] for package in stated} == {
        **stated,
        **{k: v for k, v in ONLY_HERE.items() if k in stated},
    }


def test_no_other_version_is_held_down() -> None:
    stated = {package for name in ("core", *floors.RUNS) for package in floors.required(name)}
    assert set(PINS) == stated | FOLLOWERS
    assert PINS["jaxlib"] == PINS["jax"]


def test_an_extra_that_is_not_there_is_named() -> None:
    with pytest.raises(SystemExit, match="extras must be among core, fast, torch, jax, tf, got mlx"):
        floors.main(["mlx"])
