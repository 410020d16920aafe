"""All frameworks agree among themselves, and their loss curves do."""

import itertools
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.support import agreement

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def rows() -> dict[str, dict[str, float]]:
    return agreement.distances(agreement.collect())


def test_frameworks_agree_with_the_reference_and_each_other(rows: dict[str, dict[str, float]]) -> None:
    far = {name: row for name, row in rows.items() if not max(row.values()) <= agreement.BOUND}
    assert not far
    assert all(set(row) >= set(agreement.ADAPTERS) - {"NumPy"} for row in rows.values())


def test_the_page_shows_these_rows(rows: dict[str, dict[str, float]]) -> None:
    page = (ROOT / "docs" / "reference" / "agreement.md").read_text()
    assert all(f"| {name} |" in page for name in rows)
    assert f"at most {agreement.BOUND} between any two" in page


CURVE = """
import json, sys
from examples.digits.data import make_problem
from examples.digits.recipe import LOSSES, Recipe
from examples.digits.train_{framework} import train
recipe = Recipe(epochs=5)
problem = make_problem(0, 100.0, recipe)
print(json.dumps([train(problem, loss, "class-balanced", recipe)[1][:20] for loss in LOSSES]))
"""


def test_loss_curves_of_the_demonstration_agree() -> None:
    """The first 20 steps from the same weights, over the same batches, in all three frameworks."""
    curves = {}
    for framework in ("torch", "jax", "tf"):
        command = [sys.executable, "-c", CURVE.format(framework=framework)]
        output = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT).stdout
        curves[framework] = np.array(json.loads(output.splitlines()[-1]))
        assert curves[framework].shape == (3, 20)
    for a, b in itertools.combinations(curves.values(), 2):
        np.testing.assert_allclose(a, b, rtol=1e-5)
