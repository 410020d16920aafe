"""How closely the frameworks agree: the table of docs/reference/agreement.md, made of the conformance table's parts.

    python -m tests.support.agreement            # prints the table
    python -m tests.support.agreement FILE       # and writes it

Each framework computes the same random float32 batches in a process of its own. Distances are in units of the float32
spacing (2^-23, relative), of the loss of each sample and of the gradient's terms.
"""

import importlib
import itertools
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from tests.support import reference
from tests.support.losses import LOSSES
from tests.support.spec import Call

ADAPTERS = {
    "NumPy": ("numpy_adapter", "NumpyAdapter", ()),
    "torch": ("torch_adapter", "TorchAdapter", ("composite",)),
    "torch, small": ("torch_adapter", "TorchAdapter", ("small",)),
    "torch, NumPy": ("torch_adapter", "TorchAdapter", ("NumPy",)),
    "torch, closed form": ("torch_adapter", "TorchAdapter", ("closed form",)),
    "torch, numba": ("torch_adapter", "TorchAdapter", ("numba",)),
    "JAX": ("jax_adapter", "JaxAdapter", ()),
    "TensorFlow": ("tf_adapter", "TfAdapter", ()),
}
BOUND = 16  # spacings of float32 between any two frameworks, or 1.9e-6
SHOWN = ("softmax", "sigmoid", "focal-0.5", "focal-1", "focal-2", "focal-5")
SPACING = 2.0**-23


def batches() -> dict[str, Call]:
    """Return the batches: index and soft targets, of logits with spreads of 1 to 30; and one class alone."""
    r = np.random.default_rng(2019)
    logits = (r.normal(size=(48, 20)) * np.geomspace(1, 30, 48)[:, None]).astype(np.float32)
    weights = np.geomspace(0.1, 4, 20).astype(np.float32)
    targets: dict[str, np.ndarray] = {
        "index": r.integers(0, 20, 48),
        "soft": r.dirichlet(np.ones(20), 48).astype(np.float32),
    }
    calls = {
        f"{loss}, {kind}": Call(LOSSES[loss][0], logits, target, weights, reduction="none", **LOSSES[loss][1])
        for loss in SHOWN
        for kind, target in targets.items()
    }
    alone = np.linspace(-30, 14, 705, dtype=np.float32)[:, None]  # above, the loss of gamma = 5 underflows
    for loss in SHOWN[1:]:
        family, own = LOSSES[loss]
        calls[f"{loss}, one class"] = Call(family, alone, np.zeros(705, int), None, reduction="none", **own)
    return calls


def compute(framework: str, file: Path) -> None:
    """Write values and gradients of all batches; runs in a process of its own."""
    module, name, arguments = ADAPTERS[framework]
    adapter = getattr(importlib.import_module(f"tests.support.{module}"), name)(*arguments)
    arrays: dict[str, Any] = {}
    for key, call in batches().items():
        value, gradient = adapter(call, "eager")
        arrays[f"{key}: value"] = value
        if gradient is not None:
            arrays[f"{key}: gradient"] = gradient
    np.savez(file, **arrays)


def collect() -> dict[str, dict[str, np.ndarray]]:
    """Run every framework."""
    results = {}
    with tempfile.TemporaryDirectory() as folder:
        for framework in ADAPTERS:
            file = Path(folder) / "result.npz"
            subprocess.run([sys.executable, "-m", __spec__.name, "--compute", framework, file], check=True)
            with np.load(file) as arrays:
                results[framework] = dict(arrays)
    return results


def distances(results: dict[str, dict[str, np.ndarray]]) -> dict[str, dict[str, float]]:
    """Return, for each batch, the distance of each framework to the 50-digit reference, and the largest between two."""
    rows: dict[str, dict[str, float]] = {}
    for key, call in batches().items():
        truth = reference.loss(**vars(call))
        floor = 0.5 * truth.unit * (call.loss == "softmax")  # absolute below a loss of half the weight
        sizes = {
            "value": np.maximum(np.abs(truth.value), floor),
            "gradient": np.maximum(
                truth.gradient_terms, 0.5 * truth.unit[:, None] if call.loss == "softmax" else 1e-30
            ),
        }
        for what, size in sizes.items():
            name = f"{key}: {what}"
            have = {f: arrays[name].astype(np.float64) for f, arrays in results.items() if name in arrays}
            row = {f: float(np.max(np.abs(x - getattr(truth, what)) / size)) for f, x in have.items()}
            row["any two"] = max(
                float(np.max(np.abs(a - b) / size)) for a, b in itertools.combinations(have.values(), 2)
            )
            rows[name] = {f: x / SPACING for f, x in row.items()}
    return rows


def markdown(rows: dict[str, dict[str, float]]) -> str:
    """Return the table."""
    columns = [*ADAPTERS, "any two"]
    lines = ["| | " + " | ".join(columns) + " |", "|---|" + "--:|" * len(columns)]
    for name, row in rows.items():
        cells = [f"{row[c]:.1f}" if c in row else "" for c in columns]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


PAGE = """# Agreement between frameworks

The same random float32 batches (48 samples, 20 classes, logits spread from 1 to 30, class weights), and one class alone
(logits from -30 to 14), where no sum hides its rounding, computed by every framework. A column gives the largest
distance to the 50-digit reference, the last one the largest distance between any two frameworks, in units of the
float32 spacing 2⁻²³ relative to each sample's loss, or to the terms of each gradient (for softmax at least half the
sample's weight: a softmax loss near zero is exact only in absolute terms). The promise, tested on every change, is
at most {bound} between any two. "torch, small" is the path of small batches, which PyTorch's own operations compute.
Made by `python -m tests.support.agreement docs/reference/agreement.md`.

{table}
"""


def main(arguments: list[str]) -> None:
    """Compute one framework, or all of them and the table."""
    if arguments[:1] == ["--compute"]:
        compute(arguments[1], Path(arguments[2]))
        return
    table = markdown(distances(collect()))
    print(table)
    if arguments:
        Path(arguments[0]).write_text(PAGE.format(bound=BOUND, table=table))


if __name__ == "__main__":
    main(sys.argv[1:])
