"""Modes of PyTorch around a call and after it: private names, transforms of the backward, gradients nobody wants."""

import operator
from typing import Any

import pytest
import torch

import cbcore_torch
from cbcore_torch import _modes
from cbcore_torch._paths import closed, numba
from tests.support.losses import taught
from tests.support.torch_adapter import LOSSES, force

Z = torch.randn(6, 7, generator=torch.Generator().manual_seed(0)) * 3
Y = torch.tensor([0, 6, 3, -100, 1, 5])
W = torch.linspace(0.2, 3, 7)

each_path = pytest.mark.parametrize("path", ["composite", "small", "closed form", "NumPy", "numba"])
each_loss = pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)
each_taught = pytest.mark.parametrize("loss", (TAUGHT := taught(cbcore_torch)).values(), ids=TAUGHT)
each_dtype = pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])


@pytest.mark.parametrize("name", _modes.NAMES)
def test_private_names_are_still_there(name: str) -> None:
    try:
        operator.attrgetter(name)(torch)
    except AttributeError:
        pytest.fail(
            f"PyTorch {torch.__version__} has no torch.{name} any more: every loss now takes the composite, right but "
            "slow; find its successor and name it in cbcore_torch/_modes.py"
        )


@pytest.mark.parametrize("name", _modes.NAMES)
def test_without_a_private_name_the_losses_are_right(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = LOSSES["focal"](Z, Y, W)
    owner, _, attribute = name.rpartition(".")
    monkeypatch.delattr(operator.attrgetter(owner)(torch), attribute)
    assert _modes.transformed(Z)
    logits = Z.clone().requires_grad_()
    value = LOSSES["focal"](logits, Y, W)
    torch.testing.assert_close(value.detach(), expected)
    assert torch.autograd.grad(value, logits)[0].isfinite().all()


@each_path
@each_loss
@each_dtype
@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_a_batch_of_upstream_gradients(path: str, loss: Any, dtype: torch.dtype, reduction: str) -> None:
    logits = Z.to(dtype, copy=True).requires_grad_()
    tolerance = {"rtol": 1e-5, "atol": 1e-6} if dtype == torch.float32 else {"rtol": 1e-2, "atol": 1e-6}

    def value() -> torch.Tensor:
        return loss(logits, Y, W, reduction=reduction)  # type: ignore[no-any-return]

    with force(path):
        upstream = torch.randn(4, *value().shape)
        each = torch.stack([torch.autograd.grad(value(), logits, up)[0] for up in upstream])
        kept = value()
        for again in (True, True, False):  # the gradient is there, was there, is made again
            (batch,) = torch.autograd.grad(kept, logits, upstream, is_grads_batched=True, retain_graph=again)
            torch.testing.assert_close(batch, each, **tolerance)
        used = value()
        torch.autograd.grad(used, logits, upstream[0], retain_graph=True)
        (batch,) = torch.autograd.grad(used, logits, upstream, is_grads_batched=True, retain_graph=True)
        torch.testing.assert_close(batch, each, **tolerance)
        (batch,) = torch.autograd.grad(used, logits, upstream, is_grads_batched=True, create_graph=True)
        torch.testing.assert_close(batch.detach(), each, **tolerance)
        assert batch.requires_grad


@each_path
@each_loss
def test_vectorised_jacobian_and_hessian(path: str, loss: Any) -> None:
    def function(z: torch.Tensor) -> torch.Tensor:
        return loss(z, Y, W, reduction="none")  # type: ignore[no-any-return]

    def mean(z: torch.Tensor) -> torch.Tensor:
        return loss(z, Y, W)  # type: ignore[no-any-return]

    with force(path):
        for compute, f in ((torch.autograd.functional.jacobian, function), (torch.autograd.functional.hessian, mean)):
            plain = compute(f, Z)  # type: ignore[operator]
            torch.testing.assert_close(compute(f, Z, vectorize=True), plain)  # type: ignore[operator]
        value = mean(logits := Z.clone().requires_grad_())
        mapped = torch.func.vmap(lambda up: torch.autograd.grad(value, logits, up, retain_graph=True)[0])
        batch = mapped(torch.tensor([1.0, -2.0]))
    torch.testing.assert_close(batch[1], -2 * batch[0])


@pytest.mark.parametrize("path", ["closed form", "numba"])
@each_taught
@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_where_gradients_are_off_none_is_made(path: str, loss: Any, mode: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    with force(path):
        kernels: Any = {"numba": numba, "closed form": closed}[path]
        run = kernels.run
        monkeypatch.setattr(kernels, "run", lambda *arguments: asked.append(arguments[-1]) or run(*arguments))
        wanting = Z.clone().requires_grad_()
        with mode():
            value = loss(wanting, Y, W)
            loss(wanting[None].movedim(-1, 1), Y[None], W, reduction="none")
        assert not value.requires_grad
        assert torch.equal(value, loss(wanting, Y, W).detach())
        loss(Z, Y, W)
    assert asked == [False, False, True, False]


def test_no_memory_of_the_size_of_the_logits() -> None:
    z, y = torch.zeros(4000, 1000, requires_grad=True), torch.zeros(4000, dtype=torch.int64)
    sizes = []
    with pytest.MonkeyPatch.context() as patch, force("closed form"), torch.no_grad():
        empty = closed.empty
        patch.setattr(closed, "empty", lambda like, on_host: sizes.append(like.numel()) or empty(like, on_host))
        LOSSES["softmax"](z, y)
    assert max(sizes) < z.numel() // 2
