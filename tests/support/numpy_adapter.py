"""The core on NumPy arrays in the conformance table. It has values only, no gradients."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import cbcore
from cbcore import _paths
from tests.support.losses import FAMILIES, functions
from tests.support.spec import Call

LOSSES = functions(cbcore)


class NumpyAdapter:
    """The formulas as such, or one of the paths of large batches, by force."""

    modes = ("eager",)

    def __init__(self, path: str = "formulas") -> None:
        self.name = "numpy" if path == "formulas" else f"numpy, {path}"
        self.path = path
        self.taken = ""
        self.dtypes: tuple[str, ...] = ("float32",) if path == "numba" else ("float64", "float32", "float16")

    def __call__(self, call: Call, mode: str) -> tuple[np.ndarray, np.ndarray | None]:  # noqa: ARG002
        with pytest.MonkeyPatch.context() as patch:
            if self.path == "row blocks":
                patch.setattr(_paths, "_BLOCK", 1)
            if self.path == "numba":
                patch.setattr(_paths, "_LARGE", 0)
            taken = witness(patch)
            value = self.value(call)
        self.taken = "row blocks" if len(taken) > 1 else taken[0]
        return value, None

    def refuses(self, call: Call) -> bool:
        """Tell whether this path leaves a call to the formulas as such, as docs/reference/paths.md says."""
        if self.path == "numba":
            return not FAMILIES[call.loss].is_taught or call.targets.dtype.kind != "i" or bool(call.label_smoothing)
        return self.path == "row blocks" and (call.axis % call.logits.ndim == 0 or len(call.logits) < 2)

    def value(self, call: Call) -> np.ndarray:
        value = LOSSES[call.loss](
            read_only(call.logits),
            read_only(call.targets),
            read_only(call.class_weights),
            axis=call.axis,
            where=read_only(call.valid),
            **call.options,
        )
        return np.asarray(value)


def witness(patch: pytest.MonkeyPatch) -> list[str]:
    """Collect what computes: a formula, once for each block of rows, or the numba kernels."""
    taken: list[str] = []

    def seen(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **options: Any) -> Any:
            taken.append(name)
            return function(*args, **options)

        return call

    in_row_blocks = _paths.in_row_blocks
    patch.setattr(_paths, "in_row_blocks", lambda formula: in_row_blocks(seen("formulas", formula)))
    if _paths.numba_is_installed():
        from cbcore import _kernels

        patch.setattr(_kernels, "run", seen("numba", _kernels.run))
    return taken


def read_only(x: np.ndarray | None) -> np.ndarray | None:
    if x is None:
        return None
    x = np.array(x)
    x.flags.writeable = False
    return x
