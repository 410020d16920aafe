"""What a user installs: the wheel with one extra, in an environment of its own, with no other framework beside it."""

import json
import subprocess
import sys
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MODULES = {"torch": "torch", "jax": "jax", "tf": "tensorflow"}

STEPS = {
    "torch": """
import torch, cbcore_torch
model = torch.nn.Linear(4, 3)
criterion = cbcore_torch.SigmoidFocalLoss.from_counts([90, 9, 1])
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
def step():
    optimizer.zero_grad()
    loss = criterion(model(torch.ones(6, 4)), torch.arange(6) % 3)
    loss.backward()
    optimizer.step()
    return loss.item()
""",
    "jax": """
import jax, jax.numpy as jnp, cbcore, cbcore_jax
weights = cbcore.class_weights([90, 9, 1])
parameters = jnp.zeros((4, 3))
def loss(parameters):
    return cbcore_jax.sigmoid_focal_loss(jnp.ones((6, 4)) @ parameters, jnp.arange(6) % 3, weights)
def step():
    global parameters
    value, gradient = jax.jit(jax.value_and_grad(loss))(parameters)
    parameters = parameters - 0.1 * gradient
    return float(value)
""",
    "tf": """
import keras, numpy as np, cbcore_tf
model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
model.compile("sgd", cbcore_tf.SigmoidFocalLoss.from_counts([90, 9, 1]))
def step():
    return float(model.train_on_batch(np.ones((6, 4), "float32"), np.arange(6) % 3))
""",
}


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the sdist, and the wheel from the sdist."""
    folder = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--outdir", folder, ROOT)
    return folder


def run(*command: object) -> str:
    result = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def install(folder: Path, requirement: str) -> Path:
    venv.create(folder, with_pip=True)
    python = folder / "bin" / "python"
    run(python, "-m", "pip", "install", "--quiet", "--constraint", ROOT / "constraints.txt", requirement)
    return python


def test_sdist_and_wheel(dist: Path) -> None:
    assert sorted(path.suffix for path in dist.iterdir()) == [".gz", ".whl"]


def test_core_alone_needs_numpy_and_array_api_compat(dist: Path, tmp_path: Path) -> None:
    (wheel,) = dist.glob("*.whl")
    python = install(tmp_path / "env", str(wheel))
    packages = {package["name"] for package in json.loads(run(python, "-m", "pip", "list", "--format=json"))}
    assert packages - {"pip", "setuptools"} == {"cbcore", "numpy", "array-api-compat"}
    assert run(python, "-c", "import cbcore; print(cbcore.class_weights([3, 1], 0))").strip() == "[1. 1.]"


@pytest.mark.parametrize("extra", STEPS)
def test_extra_trains_without_other_frameworks(dist: Path, tmp_path: Path, extra: str) -> None:
    (wheel,) = dist.glob("*.whl")
    python = install(tmp_path / "env", f"{wheel}[{extra}]")
    absent = [module for name, module in MODULES.items() if name != extra]
    run(python, "-c", f"import importlib.util as u\nassert not any(map(u.find_spec, {absent}))")
    first, second = map(float, run(python, "-c", STEPS[extra] + "\nprint(step())\nprint(step())").split()[-2:])
    assert 0 < second < first
