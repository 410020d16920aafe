"""PyTorch in the conformance table."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any
from unittest.mock import patch

import ml_dtypes
import numpy as np
import torch
from torch.utils._python_dispatch import TorchDispatchMode

import cbcore_torch
from cbcore_torch._paths import only, rows, small, triton
from tests.support.losses import FAMILIES, functions
from tests.support.spec import Call

LOSSES = functions(cbcore_torch)
IGNORED = -100


class TorchAdapter:
    """One of the paths that a loss can take, by force: it must be taken wherever `refuses` does not say otherwise."""

    def __init__(self, path: str) -> None:
        self.name = f"torch, {path}"
        self.path = path
        self.taken = ""
        self.dtypes: tuple[str, ...] = ("float64", "float32", "float16", "bfloat16")
        self.modes: tuple[str, ...] = ("eager",)
        if path == "triton":
            self.dtypes, self.modes = ("float32", "float16", "bfloat16"), ("interpreted",)
        elif path in {"small", "numba", "NumPy"}:
            self.dtypes = ("float32", "bfloat16")
        elif path == "composite":
            self.modes = ("eager", "compiled")
        elif path == "closed form":
            self.modes = ("eager", "watched")

    def __call__(self, call: Call, mode: str) -> tuple[np.ndarray, np.ndarray | None]:
        watch: Any = Watch() if mode == "watched" else nullcontext()  # as on a GPU, no value is read then
        with force(self.path), watch, cbcore_torch.paths() as taken:
            result = self.value_and_gradient(call, mode)
        if mode != "compiled":
            self.taken = taken[0].path
        return result

    def refuses(self, call: Call) -> bool:
        """Tell whether this path leaves a call to another, as docs/reference/paths.md says."""
        if self.path == "composite":
            return False
        if not (call.logits.size and FAMILIES[call.loss].is_taught):
            return True
        if self.path == "closed form":
            return False
        if call.targets.dtype.kind != "i" or call.label_smoothing:
            return True
        if self.path == "NumPy":
            return call.logits.size > rows.SMALL
        return self.path == "small" and (
            (call.logits.ndim, call.axis % call.logits.ndim) != (2, 1)
            or call.sample_weight is not None
            or call.reduction == "weighted_mean"
            or (call.loss == "focal" and call.gamma not in (0, 1))
            or not (call.valid is None or call.valid.all())
        )

    def value_and_gradient(self, call: Call, mode: str) -> tuple[np.ndarray, np.ndarray | None]:
        logits = tensor(call.logits).requires_grad_()
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
            **call.options,
        )
        (gradient,) = torch.autograd.grad(value.sum(), logits)
        return value.detach().numpy(), array(gradient)


class Watch(TorchDispatchMode):
    """A mode that sees every operation, and that no value is read."""

    def __torch_dispatch__(self, function: Any, types: Any, arguments: Any = (), options: Any = None) -> Any:
        assert function is not torch.ops.aten._local_scalar_dense.default, "a value was read"
        return function(*arguments, **options or {})


@contextmanager
def force(path: str) -> Iterator[None]:
    """Allow one path beside the composite: that for small batches as without numba, Triton's in its interpreter."""
    devices = ("cpu",) if path == "triton" else triton.DEVICES
    without = patch.object(small, "numba_is_installed", lambda: False)
    with only(path), without, patch.object(triton, "DEVICES", devices):
        yield


def tensor(x: np.ndarray | None) -> Any:
    if x is None:
        return None
    if x.dtype == ml_dtypes.bfloat16:
        return torch.from_numpy(x.astype(np.float32)).bfloat16()
    return torch.from_numpy(np.array(x))


def array(x: torch.Tensor) -> np.ndarray:
    return x.float().numpy().astype(ml_dtypes.bfloat16) if x.dtype == torch.bfloat16 else x.numpy()
