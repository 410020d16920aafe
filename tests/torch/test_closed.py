"""The closed form where no value can be read, and at values that no conformance case has."""

from contextlib import nullcontext
from typing import Any

import pytest
import torch
from torch._subclasses import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode

import cbcore_torch
from tests.support.losses import taught
from tests.support.torch_adapter import Watch, force

INF, NAN = float("inf"), float("nan")
Z = torch.randn(6, 5, generator=torch.Generator().manual_seed(0)) * 3
Y = torch.tensor([0, 4, -100, 2, 1, 3])
SOFT = torch.softmax(torch.randn(6, 5, generator=torch.Generator().manual_seed(1)), 1)
TARGETS = {"index": (Y, 0.0), "smoothed": (Y, 0.1), "soft": (SOFT, 0.0), "soft, smoothed": (SOFT, 0.2)}

LOSSES = taught(cbcore_torch)

each_loss = pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)
each_target = pytest.mark.parametrize(("target", "smoothing"), TARGETS.values(), ids=TARGETS)


def step(loss: Any, z: torch.Tensor, target: torch.Tensor, smoothing: float = 0.0, **options: Any) -> Any:
    z = z.clone().requires_grad_()
    value = loss(z, target, torch.linspace(0.5, 2, 5, device=z.device), label_smoothing=smoothing, **options)
    return value.detach(), torch.autograd.grad(value.sum(), z)[0]


@each_loss
@each_target
def test_it_is_taken_under_a_mode_that_counts(loss: Any, target: torch.Tensor, smoothing: float) -> None:
    with FlopCounterMode(display=False), cbcore_torch.paths() as taken:
        result = step(loss, Z, target, smoothing)
    assert [record.path for record in taken] == ["closed form"]
    with force("composite"):
        torch.testing.assert_close(result, step(loss, Z, target, smoothing))


@each_loss
@each_target
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.float64])
@pytest.mark.parametrize(("mode", "device"), [(FakeTensorMode, "cpu"), (FakeTensorMode, "meta"), (nullcontext, "meta")])
def test_it_needs_no_values(
    loss: Any, target: torch.Tensor, smoothing: float, dtype: torch.dtype, mode: Any, device: str
) -> None:
    """Tensors that have no values: a read would raise."""
    with mode(), cbcore_torch.paths() as taken:
        z = torch.empty(6, 5, dtype=dtype, device=device, requires_grad=True)
        y = torch.empty(target.shape, dtype=target.dtype, device=device)
        value = loss(z, y, torch.empty(5, device=device), label_smoothing=smoothing)
        (gradient,) = torch.autograd.grad(value, z)
    assert (value.dtype, value.shape) == (torch.float64 if dtype == torch.float64 else torch.float32, ())
    assert (gradient.shape, gradient.dtype, gradient.device.type) == (z.shape, dtype, device)
    assert [record.path for record in taken] == ["closed form"]


@each_loss
@pytest.mark.parametrize("watch", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_rows_with_infinities_and_nans(loss: Any, watch: bool, dtype: torch.dtype) -> None:
    z = torch.tensor(
        [
            [INF, 0, 1, 2, 3],  # the target's
            [-INF, 0, 1, 2, 3],  # not the target's
            [-INF, 0, 1, 2, 3],  # half the target's
            [INF, -INF, 1, 2, 3],
            [NAN, 0, 1, 2, 3],
            [-INF, -INF, -INF, -INF, -INF],
            [0, 0, 1, 2, 3],  # a target that is no number
            [0, 1e30, -1e30, 2, 3],
        ],
        dtype=dtype,
    )
    t = torch.zeros_like(z)
    t[0, 0] = t[1, 1] = t[3, 2] = t[4, 1] = t[5, 0] = t[7, 1] = 1
    t[2, :2] = 0.5
    t[6, 1] = NAN
    with force("composite"):
        expected, _ = step(loss, z, t, reduction="none")
    with force("closed form"):
        if watch:
            with Watch():
                value, gradient = step(loss, z, t, reduction="none")
        else:
            value, gradient = step(loss, z, t, reduction="none")
    torch.testing.assert_close(value, expected, equal_nan=True)
    for row in (1, 7):
        assert gradient[row].isfinite().all()
    for row in (4, 6):
        assert gradient[row].isnan().any()


@each_loss
def test_float16_gradients_are_rounded_after_loss_scaling(loss: Any) -> None:
    """A gradient below the smallest float16 comes back if the loss is scaled."""
    z, y = torch.zeros(4096, 4, dtype=torch.float16), torch.zeros(4096, dtype=torch.int64)
    z[:, 0] = 12

    def gradient(scale: float, dtype: torch.dtype) -> torch.Tensor:
        logits = z.to(dtype, copy=True).requires_grad_()
        (loss(logits, y) * scale).backward()
        assert logits.grad is not None
        return logits.grad

    half, exact = gradient(2.0**16, torch.float16), gradient(2.0**16, torch.float64)
    torch.testing.assert_close(half.double(), exact, rtol=2**-11, atol=16 * 16 * 2**-23)
    assert (gradient(1.0, torch.float16) == 0).any()
