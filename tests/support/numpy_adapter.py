"""The core on NumPy arrays in the conformance table. It has values only, no gradients."""

from typing import Any

import numpy as np

import cbcore
from tests.support.spec import Call

LOSSES = {
    "softmax": cbcore.softmax_cross_entropy,
    "sigmoid": cbcore.sigmoid_cross_entropy,
    "focal": cbcore.sigmoid_focal_loss,
}


class NumpyAdapter:
    name = "numpy"
    dtypes = ("float64", "float32", "float16")
    modes = ("eager",)

    def __call__(self, call: Call, mode: str) -> tuple[np.ndarray, np.ndarray | None]:  # noqa: ARG002
        options: dict[str, Any] = {"gamma": call.gamma} if call.loss == "focal" else {}
        value = LOSSES[call.loss](
            read_only(call.logits),
            read_only(call.targets),
            read_only(call.class_weights),
            axis=call.axis,
            where=read_only(call.valid),
            reduction=call.reduction,
            label_smoothing=call.label_smoothing,
            **options,
        )
        return np.asarray(value), None


def read_only(x: np.ndarray | None) -> np.ndarray | None:
    if x is None:
        return None
    x = np.array(x)
    x.flags.writeable = False
    return x
