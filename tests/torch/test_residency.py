"""Nothing reads a tensor's value on the host: on the meta device there is none to read."""

from typing import Any

import pytest
import torch

import cbcore_torch
from tests.support.losses import criteria

MODULES = [*criteria(cbcore_torch).values()]


@pytest.mark.parametrize("cls", MODULES)
@pytest.mark.parametrize("reduction", ["none", "sum", "mean", "weighted_mean"])
@pytest.mark.parametrize("soft", [False, True], ids=["index", "soft"])
def test_forward_and_backward_on_meta(cls: Any, reduction: str, soft: bool) -> None:
    module = cls.from_counts([9, 3, 1], reduction=reduction, label_smoothing=0.1).to("meta")
    logits = torch.empty(5, 3, 4, device="meta", requires_grad=True)
    target = torch.empty(5, 3, 4, device="meta") if soft else torch.empty(5, 4, dtype=torch.int64, device="meta")
    loss = module(logits, target, torch.empty(5, 4, device="meta"))
    assert loss.is_meta
    assert loss.shape == ((5, 4) if reduction == "none" else ())
    loss.sum().backward()
    assert logits.grad is not None
    assert logits.grad.is_meta


def test_the_test_can_fail() -> None:
    with pytest.raises(RuntimeError):
        torch.empty((), device="meta").item()


def test_weights_on_another_device() -> None:
    with pytest.raises(ValueError, match="class_weights must be on the device of input, meta, got cpu; move it"):
        cbcore_torch.softmax_cross_entropy(
            torch.empty(2, 3, device="meta"), torch.empty(2, device="meta", dtype=torch.int64), torch.ones(3)
        )  # fmt: skip
