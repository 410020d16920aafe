"""The numbers depend on the arguments alone: not on torch's default dtype, nor on its default device."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch

import cbcore
from cbcore_torch import SigmoidFocalLoss, SoftmaxCrossEntropy
from tests.support import spec
from tests.support.torch_adapter import LOSSES, TorchAdapter, force

PATHS = ["composite", "small", "closed form", "NumPy", "numba"]
AMBIENT = ["float64", "bfloat16", "float16", "meta"]
CASES = ("index", "none", "weighted-mean", "soft", "multi-hot", "smoothing", "ignored", "sample-weight", "dense")
COUNTS = [5000, 500, 50]


@contextmanager
def ambient(what: str) -> Iterator[None]:
    if what == "meta":
        with torch.device("meta"):
            yield
        return
    before = torch.get_default_dtype()
    torch.set_default_dtype(getattr(torch, what))
    try:
        yield
    finally:
        torch.set_default_dtype(before)


@pytest.mark.parametrize("what", AMBIENT)
@pytest.mark.parametrize("path", PATHS)
def test_the_conformance_table_under_other_defaults(path: str, what: str) -> None:
    adapter = TorchAdapter(path)
    cells = [
        cell
        for cell in spec.cells(adapter)
        if cell.case in CASES and cell.loss in ("softmax", "sigmoid", "focal-0.3", "focal-2") and cell.mode == "eager"
    ]
    assert len(cells) >= 4 * len(CASES) * 2
    for cell in cells:
        with ambient(what):
            spec.check(adapter, cell)


@pytest.mark.parametrize("what", AMBIENT)
@pytest.mark.parametrize("path", ["closed form", "numba"])
@pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)
def test_large_batches_and_second_derivatives(path: str, what: str, loss: Any) -> None:
    z, y = torch.randn(64, 1100), torch.arange(64)

    def run() -> list[torch.Tensor]:
        logits = z.clone().requires_grad_()
        value = loss(logits, y)
        (gradient,) = torch.autograd.grad(value, logits, create_graph=True)
        (second,) = torch.autograd.grad(gradient.square().sum(), logits)
        return [value.detach(), gradient.detach(), second]

    with force(path):
        expected = run()
        with ambient(what):
            got = run()
    for one, other in zip(got, expected, strict=True):
        assert (one.dtype, one.device) == (other.dtype, other.device)
        assert torch.equal(one, other)


@pytest.mark.parametrize("what", AMBIENT)
def test_weights_of_a_criterion(what: str) -> None:
    exact = cbcore.class_weights(COUNTS)
    dtype = torch.float64 if what == "float64" else torch.float32
    with ambient(what):
        criteria = [SoftmaxCrossEntropy.from_counts(COUNTS), SigmoidFocalLoss(exact), SoftmaxCrossEntropy(list(exact))]
    for criterion in criteria:
        weights: Any = criterion.class_weights
        assert weights.dtype == dtype
        assert weights.device.type == "cpu"  # a default of meta has no memory to put them in
        np.testing.assert_array_equal(weights.numpy(), exact.astype(weights.numpy().dtype))
