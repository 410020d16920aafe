"""PyTorch in the conformance table."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import torch

import cbcore_torch
from cbcore import _formulas as formulas
from cbcore_torch import _cuda, _fused, _numba, _row_blocks, _small
from tests.support.spec import Call

LOSSES = {
    "softmax": cbcore_torch.softmax_cross_entropy,
    "sigmoid": cbcore_torch.sigmoid_cross_entropy,
    "focal": cbcore_torch.sigmoid_focal_loss,
}
IGNORED = -100


# Where a path does its work; `_small` may still decline, by None.
ENTRIES: dict[str, tuple[Any, str]] = {
    "composite": (formulas, "class_balanced_loss"),
    "small": (_small, "loss"),
    "row blocks": (_row_blocks, "run"),
    "numba": (_numba, "run"),
    "triton": (_cuda.TritonLoss, "forward"),
}


class TorchAdapter:
    """One of the paths that a loss can take, by force: it must be taken wherever `refuses` does not say otherwise."""

    def __init__(self, path: str) -> None:
        self.name = f"torch, {path}"
        self.path = path
        self.taken = ""
        self.dtypes: tuple[str, ...] = ("float32", "bfloat16")
        self.modes: tuple[str, ...] = ("eager",)
        if path == "triton":
            self.dtypes, self.modes = ("float32", "float16", "bfloat16"), ("interpreted",)
        if path == "composite":
            self.dtypes, self.modes = ("float64", "float32", "float16", "bfloat16"), ("eager", "compiled")

    def __call__(self, call: Call, mode: str) -> tuple[np.ndarray, np.ndarray | None]:
        if mode == "compiled":  # whatever traces takes the composite, and would trace the witness too
            with force(self.path):
                return self.value_and_gradient(call, mode)
        with force(self.path), witness() as taken:
            result = self.value_and_gradient(call, mode)
        self.taken = taken[0]
        return result

    def refuses(self, call: Call) -> bool:
        """Tell whether this path leaves a call to another, as docs/reference/paths.md says."""
        if self.path == "composite":
            return False
        if call.targets.dtype.kind != "i" or call.label_smoothing or not call.logits.size:
            return True
        return self.path == "small" and (
            (call.logits.ndim, call.axis % call.logits.ndim) != (2, 1)
            or call.sample_weight is not None
            or call.reduction == "weighted_mean"
            or not (call.loss != "focal" or call.gamma in (0, 0.5, 1, 2))
            or not (call.valid is None or call.valid.all())
        )

    def value_and_gradient(self, call: Call, mode: str) -> tuple[np.ndarray, np.ndarray | None]:
        logits = tensor(call.logits).requires_grad_()
        options: dict[str, Any] = {"gamma": call.gamma} if call.loss == "focal" else {}
        if call.unlabelled_weight is not None:
            options["unlabelled_weight"] = call.unlabelled_weight
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


@contextmanager
def witness() -> Iterator[list[str]]:
    """Collect the names of the paths that compute something, in order."""
    taken: list[str] = []

    def seen(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **options: Any) -> Any:
            result = function(*args, **options)
            if result is not None:
                taken.append(name)
            return result

        return call

    with pytest.MonkeyPatch.context() as patch:
        for name, (module, function) in ENTRIES.items():
            patch.setattr(module, function, seen(name, getattr(module, function)))
        yield taken


def tensor(x: np.ndarray | None) -> Any:
    if x is None:
        return None
    if x.dtype == ml_dtypes.bfloat16:
        return torch.from_numpy(x.astype(np.float32)).bfloat16()
    return torch.from_numpy(np.array(x))


def array(x: torch.Tensor) -> np.ndarray:
    return x.float().numpy().astype(ml_dtypes.bfloat16) if x.dtype == torch.bfloat16 else x.numpy()
