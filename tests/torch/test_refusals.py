"""Why a path leaves a call to the next, in words, and the path of Triton with kernels of another make."""

import sys
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

import cbcore_torch
from cbcore._kinds import OneVsAll, Softmax
from cbcore_torch import _call
from cbcore_torch._call import Call
from cbcore_torch._paths import closed, numba, rows, triton

Z = torch.linspace(-4, 4, 15).view(5, 3)
Y = torch.tensor([0, 1, 2, 1, -100])


class Watch(TorchDispatchMode):
    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return function(*args, **(kwargs or {}))


class Another(torch.Tensor):
    pass


def call(input: torch.Tensor = Z, target: torch.Tensor = Y, smoothing: float = 0.0) -> Call:
    return Call(Softmax(), input, target, None, None, 1, -100, "mean", smoothing, None)


def test_tensors_that_stand_for_others_are_for_the_composite() -> None:
    assert _call.by_composite_only(call()) is None
    assert _call.by_composite_only(call(Z.as_subclass(Another))) == "input is a Another, not a plain tensor"
    with cbcore_torch.paths() as taken:
        value = cbcore_torch.softmax_cross_entropy(Z.as_subclass(Another), Y)
    assert taken[0].path == "composite"
    torch.testing.assert_close(value.as_subclass(torch.Tensor), cbcore_torch.softmax_cross_entropy(Z, Y))


def test_dtypes() -> None:
    assert closed.refuses(call(Z.to(torch.float8_e5m2))) == "input is torch.float8_e5m2"
    assert (numba.refuses(call(Z.double())) or "").startswith("input is torch.float64")


def test_numba_that_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(numba, "numba_is_installed", lambda: False)
    assert numba.refuses(call()) == "the extra `fast` is not installed"


def test_triton(monkeypatch: pytest.MonkeyPatch) -> None:
    assert (triton.refuses(call()) or "").startswith("input is on the device cpu")
    monkeypatch.setattr(triton, "DEVICES", ("cpu",))
    assert triton.refuses(call(Z.double())) == "input is torch.float64"
    for soft in (call(smoothing=0.1), call(target=Z)):
        assert (triton.refuses(soft) or "").startswith("the targets are soft")
    with Watch():
        assert triton.refuses(call()) == "a TorchDispatchMode wants to see operations"


def test_the_kernels_are_found_where_triton_is() -> None:
    pytest.importorskip("triton")
    triton.kernels.cache_clear()
    assert getattr(triton.kernels(), "__name__", None) == "cbcore_torch._triton"


@pytest.mark.parametrize("gamma", [None, 2.0])
@pytest.mark.parametrize("reduction", ["mean", "none"])
@pytest.mark.parametrize("with_stats", [False, True])
def test_the_path_of_triton_hands_on_what_its_kernels_give(
    gamma: float | None, reduction: str, with_stats: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Kernels:
        @staticmethod
        def forward(z: Any, target: Any, scale: Any, gamma: float | None) -> tuple[torch.Tensor, torch.Tensor | None]:
            return triton.reference(z, target, scale, gamma)[0], target + 1 if with_stats else None

        @staticmethod
        def gradient(upstream: Any, z: Any, target: Any, scale: Any, gamma: float | None, stats: Any) -> torch.Tensor:
            assert torch.equal(stats, target + 1) if with_stats else stats is None
            return triton.reference(z, target, scale, gamma)[1] * upstream[:, None]

    monkeypatch.setitem(sys.modules, "cbcore_torch._triton", Kernels)  # type: ignore[arg-type]
    monkeypatch.setattr(cbcore_torch, "_triton", Kernels, raising=False)
    kind = Softmax() if gamma is None else OneVsAll(gamma)
    z, other = Z.clone().requires_grad_(), Z.clone().requires_grad_()
    weights = torch.tensor([0.5, 1.0, 1.5])
    value = triton.loss(Call(kind, z, Y, weights, None, 1, -100, reduction, 0.0, None))
    expected = rows.loss(Call(kind, other, Y, weights, None, 1, -100, reduction, 0.0, None), closed.run)
    torch.testing.assert_close(value, expected)
    upstream = torch.tensor(np.arange(1.0, 6)) if reduction == "none" else torch.tensor(2.0)
    upstream = upstream.to(value.dtype)
    gradient, truth = (
        torch.autograd.grad(value, z, upstream, retain_graph=True)[0],
        torch.autograd.grad(expected, other, upstream)[0],
    )
    torch.testing.assert_close(gradient, truth)
    (again,) = torch.autograd.grad(value, z, upstream, create_graph=True)
    torch.testing.assert_close(again.detach(), truth)
    assert again.requires_grad
