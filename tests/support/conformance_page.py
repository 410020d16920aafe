"""docs/reference/conformance.md: what every framework must meet, written from the conformance table itself.

python -m tests.support.conformance_page            # writes the page
"""

from pathlib import Path

import numpy as np

from tests.support.losses import LOSSES
from tests.support.spec import DTYPES, RELATIVE, SOFTMAX_FLOOR, TRACED, cases

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "conformance.md"

TEXT = """# Conformance: what is promised

One table of {losses} losses, {cases} cases and {dtypes} dtypes holds for every framework and every path, in value and
gradient: eager, and compiled for
{traced}.
NumPy has no gradient and no bfloat16, and JAX and NumPy no sample weights. All are compared with a reference of 50
digits that is written from the equations, shares no code with the library, and gets the same inputs, rounded to the
dtype first. This page is made from that table (`python -m tests.support.conformance_page`), and a test keeps it so.

## Tolerances

| computed in | of each sample's loss, relative | of each gradient, relative to its terms | besides, for softmax |
|---|--:|--:|--:|
{tolerances}

* float16 and bfloat16 logits are computed in float32 and give a float32 loss. Their gradient has the dtype of the
  logits, and may be off by half a unit of its last digit more.
* A gradient is a sum over classes, and with "mean" over samples; its terms may cancel. The tolerance is relative to the
  sum of their absolute values.
* A softmax loss near zero is a difference of two larger numbers, z_y and log Σ e^z. It is exact only in absolute terms:
  the last column is times the weight of the sample.
* What is smaller than the smallest normal number of the dtype may be flushed to zero.
* Gradients are finite wherever logits are.

## Losses

{loss_list}

## Cases

| case | logits | targets | options |
|---|---|---|---|
{case_rows}

`to-1e4` goes through |z| from 0.001 to 10,000. `ignored` cases hold NaN and infinite logits in ignored rows.
"""


def page() -> str:
    """Return the text of the page."""
    tolerances = [
        f"| {name} | {relative:g} | {relative:g} | {SOFTMAX_FLOOR * float(np.finfo(name).eps):.1g} |"
        for name, relative in RELATIVE.items()
    ]
    rows = []
    for name, case in cases().items():
        kind = "indices" if case.targets.dtype.kind == "i" else "floats"
        options = [_option(key, value) for key, value in case.options]
        weights = ["`class_weights`"] if case.class_weights is not None else []
        rows.append(f"| {name} | {case.logits.shape} | {kind} | {', '.join(weights + options)} |")
    return TEXT.format(
        losses=len(LOSSES),
        cases=len(cases()),
        dtypes=len(DTYPES),
        traced=", ".join(f"`{name}`" for name in TRACED),
        tolerances="\n".join(tolerances),
        loss_list=", ".join(f"`{name}`" for name in LOSSES) + ".",
        case_rows="\n".join(rows),
    )


def _option(key: str, value: object) -> str:
    if isinstance(value, np.ndarray):
        return "ignored samples" if key == "valid" else f"`{key}`"
    return f"`{key}={value!r}`"


if __name__ == "__main__":
    PAGE.write_text(page())
