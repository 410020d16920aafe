"""A loss that no path was taught is right on every path."""

import functools
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch

import cbcore_torch
from cbcore import _kinds as kinds
from cbcore import _losses as numpy_losses
from cbcore import _paths as numpy_paths
from cbcore_torch import _functional
from cbcore_torch import _ops as ops
from cbcore_torch._paths import compute
from tests.support.torch_adapter import force
from tests.support.unknown import GRADIENT, TRUTH, Shifted, Y, Z


@pytest.mark.parametrize("path", ["composite", "small", "closed form", "NumPy", "numba"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_torch_sends_a_kind_that_it_does_not_know_to_its_formula(path: str, dtype: torch.dtype) -> None:
    z = torch.from_numpy(Z).to(dtype).requires_grad_()
    with force(path), cbcore_torch.paths() as taken:
        value: Any = compute(
            _functional.checked(Shifted(), z, torch.from_numpy(Y), None, 1, -100, None, "mean", 0.0, None)
        )
    assert [record.path for record in taken] == ["composite"]
    torch.testing.assert_close(value.item(), TRUTH, rtol=5e-3 if dtype == torch.bfloat16 else 1e-6, atol=0)
    (gradient,) = torch.autograd.grad(value, z)
    expected = torch.from_numpy(GRADIENT).to(dtype)
    torch.testing.assert_close(gradient, expected, rtol=2e-2 if dtype == torch.bfloat16 else 1e-5, atol=1e-6)


@pytest.mark.parametrize("limit", [("_LARGE", 0), ("_BLOCK", 1), ("_BLOCK", 1 << 16)])
def test_numpy_sends_a_kind_that_it_does_not_know_to_its_formula(
    limit: tuple[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(numpy_paths, *limit)
    value = numpy_losses._loss(Shifted(), Z, Y, None, -1, None, "mean", 0.0, None)
    np.testing.assert_allclose(value, TRUTH, rtol=1e-6)


def test_no_kernel_is_told_that_an_unknown_kind_is_softmax() -> None:
    with pytest.raises(TypeError, match="must be one that fused kernels know"):
        kinds.power(Shifted())


@pytest.mark.parametrize("kind", [kinds.Softmax(), kinds.OneVsAll(), kinds.OneVsAll(2.0)])
@pytest.mark.parametrize("targets", ["index", "soft"])
def test_the_verbs_over_blocks_of_classes_are_loss_and_gradient(kind: Any, targets: str) -> None:
    """What a loss by blocks or shards of classes would compute, in PyTorch's operations."""
    z = (torch.randn(6, 11, generator=torch.Generator().manual_seed(0)) * 300).double().requires_grad_()
    t = torch.arange(6) if targets == "index" else torch.softmax(z.detach().flip(1), 1)
    loss = kind.sample_loss(ops, z, t, 1, 0.0)
    (expected,) = torch.autograd.grad(loss.sum(), z)
    with torch.no_grad():
        lows = range(0, 11, 4)
        parts = [(z[:, low : low + 4], t - low if targets == "index" else t[:, low : low + 4]) for low in lows]
        stats = functools.reduce(partial(kind.merge, ops), [kind.partial(ops, *part, 1) for part in parts])
        slope = torch.cat([kind.slope(ops, *part, stats, 1) for part in parts], 1)
        torch.testing.assert_close(kind.finish(ops, stats), loss)
    torch.testing.assert_close(slope, expected)
