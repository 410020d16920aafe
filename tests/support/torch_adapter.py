"""PyTorch in the conformance table."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import torch

import cbcore_torch
from cbcore_torch import _fused, _numba, _row_blocks, _small
from tests.support.spec import Call

LOSSES = {
    "softmax": cbcore_torch.softmax_cross_entropy,
    "sigmoid": cbcore_torch.sigmoid_cross_entropy,
    "focal": cbcore_torch.sigmoid_focal_loss,
}
IGNORED = -100


class TorchAdapter:
    """One of the paths that a loss can take, by force; what the fused paths do not take stays composite."""

    def __init__(self, path: str) -> None:
        self.name = f"torch, {path}"
        self.path = path
        self.dtypes: tuple[str, ...] = ("float32", "bfloat16")
        self.modes: tuple[str, ...] = ("eager",)
        if path == "triton":
            self.dtypes, self.modes = ("float32", "float16", "bfloat16"), ("interpreted",)
        if path == "composite":
            self.dtypes, self.modes = ("float64", "float32", "float16", "bfloat16"), ("eager", "compiled")

    def __call__(self, call: Call, mode: str) -> tuple[np.ndarray, np.ndarray | None]:
        with force(self.path):
            return self.value_and_gradient(call, mode)

    def value_and_gradient(self, call: Call, mode: str) -> tuple[np.ndarray, np.ndarray | None]:
        logits = tensor(call.logits).requires_grad_()
        options: dict[str, Any] = {"gamma": call.gamma} if call.loss == "focal" else {}
        targets = call.targets if call.valid is None else np.where(call.valid, call.targets, IGNORED)
        loss = LOSSES[call.loss]
        if mode == "compiled":  # the whole tracing and autograd machinery, without needing a C++ compiler
            torch.compiler.reset()
            loss = torch.compile(loss, fullgraph=True, backend="aot_eager")
        value = loss(
            logits,
            tensor(targets),
            tensor(call.class_weights),
            dim=call.axis,
            sample_weight=tensor(call.sample_weight),
            reduction=call.reduction,
            label_smoothing=call.label_smoothing,
            **options,
        )
        (gradient,) = torch.autograd.grad(value.sum(), logits)
        return value.detach().numpy(), array(gradient)


@contextmanager
def force(path: str) -> Iterator[None]:
    """Take one of the paths "composite", "small", "row blocks", "numba" and "triton" (in Triton's interpreter)."""
    with pytest.MonkeyPatch.context() as patch:
        if path != "small":
            patch.setattr(_small, "LIMIT", -1)
        if path == "composite":
            patch.setattr(_fused, "takes", lambda *_: False)
        elif path == "triton":
            patch.setattr(_fused, "_on_gpu", lambda _: True)
        elif path in {"row blocks", "small"}:
            patch.setattr(_fused, "kernels", lambda: _row_blocks)
        else:
            assert _fused.kernels() is _numba
        yield


def tensor(x: np.ndarray | None) -> Any:
    if x is None:
        return None
    if x.dtype == ml_dtypes.bfloat16:
        return torch.from_numpy(x.astype(np.float32)).bfloat16()
    return torch.from_numpy(np.array(x))


def array(x: torch.Tensor) -> np.ndarray:
    return x.float().numpy().astype(ml_dtypes.bfloat16) if x.dtype == torch.bfloat16 else x.numpy()
