"""Where implementations of the losses break: the tables of docs/explanation/log-space.md, made by running them.

python -m docs.scripts.failure_table                                    # prints the tables
python -m docs.scripts.failure_table docs/explanation/log-space.md      # and writes them into the page
"""

import math
import re
import sys
from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch

from docs.scripts import failure_cases as cases
from docs.scripts.failure_cases import Exact, Loss, Weights

MARKS = "<!-- failure tables: begin -->", "<!-- failure tables: end -->"
TOLERANCE = 0.01
GOOD = "✓"


def judge(name: str, got: Iterable[float], exact: Iterable[float]) -> str:
    """Return "" within the tolerance, else what is wrong with the worst element."""
    pairs = [(a, b) for a, b in zip(got, exact, strict=True) if not abs(a - b) <= TOLERANCE * abs(b)]
    if not pairs:
        return ""
    if any(math.isnan(a) for a, _ in pairs):
        return f"{name} NaN"
    value, error = max(((a, a / b - 1) for a, b in pairs), key=lambda pair: abs(pair[1]))
    if math.isinf(value) or error < -0.999:
        return f"{name} {'infinite' if math.isinf(value) else 0}"
    return f"{name} {abs(error):.0%} too {'large' if error > 0 else 'small'}"


def run(loss: Loss, logits: list[float], dtype: str, exact: Exact, *options: float) -> str:
    """Judge the value and the gradient of a loss."""
    z = torch.tensor([logits], dtype=getattr(torch, dtype), requires_grad=True)
    value = loss(z, *options)
    value.backward()  # type: ignore[no-untyped-call]
    assert z.grad is not None
    found = judge("loss", [value.item()], [exact[0]]), judge("gradient", z.grad[0].tolist(), exact[1])
    return ", ".join(filter(None, found)) or GOOD


def weigh(make: Weights, beta: float, counts: list[int]) -> str:
    """Judge class weights."""
    try:
        with np.errstate(all="ignore"):
            weights = make(beta, counts)
    except ValueError:
        return "ValueError, names the class"
    return judge("weights", map(float, weights), cases.exact_weights(beta, counts)) or GOOD


def table(corner: str, rows: dict[str, dict[str, str]]) -> str:
    """Return a Markdown table of rows of named cells."""
    columns = list(next(iter(rows.values())))
    lines = [[corner, *columns], ["---"] * (len(columns) + 1)]
    lines += [[name, *row.values()] for name, row in rows.items()]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def tables() -> str:
    """Return the tables and the versions they are of, in Markdown."""
    focal = {
        rf"$\gamma = {gamma:g}$, {dtype}, $z = {z}$": {
            name: run(loss, [z], dtype, cases.exact_focal(z, gamma), gamma) for name, loss in cases.FOCAL.items()
        }
        for gamma, dtype, z in cases.FOCAL_ROWS
    }
    cross_entropy = {
        row: {name: run(loss, logits, dtype, exact) for name, loss in losses.items()}
        for row, (losses, logits, dtype, exact) in cases.CROSS_ENTROPY_ROWS.items()
    }
    weights = {
        row: {name: weigh(make, *arguments) for name, make in cases.WEIGHTS.items()}
        for row, arguments in cases.WEIGHT_ROWS.items()
    }
    packages = ("torch", "kornia", "balanced-loss", "cbloss", "keras")
    versions = ", ".join(f"{name} {version(name).split('+')[0]}" for name in packages)
    made = [table("one positive class", focal), table("cross-entropy", cross_entropy), table("class weights", weights)]
    return "\n".join([*made, f"Measured with {versions}.\n"])


def main(paths: list[str]) -> None:
    """Print the tables, and write them into pages."""
    made = tables()
    print(made, end="")
    begin, end = map(re.escape, MARKS)
    for path in map(Path, paths):
        page = re.sub(f"({begin}\n).*({end})", lambda m: f"{m[1]}\n{made}\n{m[2]}", path.read_text(), flags=re.DOTALL)
        path.write_text(page)


if __name__ == "__main__":
    main(sys.argv[1:])
