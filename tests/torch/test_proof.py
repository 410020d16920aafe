"""When kernels are tried and what comes of it, with kernels that are not compiled; see test_triton.py for those."""

import sys
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import pytest
import torch
from torch import Tensor

import cbcore
from cbcore import _formulas as formulas
from cbcore._kinds import OneVsAll, Softmax
from cbcore_torch import _ops, _proof
from cbcore_torch._call import Call
from cbcore_torch._paths import triton
from tests.support import spec

CPU = torch.device("cpu")
Z = torch.linspace(-9, 9, 45).view(9, 5)


class Kernels:
    """Kernels that compute in float64, and count how often they are run."""

    def __init__(self) -> None:
        self.runs = 0

    def variant(self, gamma: float | None) -> str:
        return "softmax" if gamma is None else "one-vs-all"

    def forward(self, z: Tensor, target: Tensor, scale: Tensor, gamma: float | None) -> tuple[Tensor, Tensor | None]:
        self.runs += 1
        losses = torch.empty_like(scale)
        losses[:] = triton.reference(z.double(), target, scale, gamma)[0]
        return losses, None

    def gradient(
        self, upstream: Tensor, z: Tensor, target: Tensor, scale: Tensor, gamma: float | None, stats: Tensor | None
    ) -> Tensor:
        assert stats is None
        slope = triton.reference(z.double(), target, scale, gamma)[1]
        return torch.empty_like(z).copy_(slope * upstream[:, None])


class Raising(Kernels):
    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error

    def forward(self, z: Tensor, target: Tensor, scale: Tensor, gamma: float | None) -> tuple[Tensor, Tensor | None]:
        super().forward(z, target, scale, gamma)
        raise self.error


def refusal(kernels: Kernels, dtype: torch.dtype = torch.float32, gamma: float | None = 2.0) -> str | None:
    return _proof.refusal(kernels, triton.reference, CPU, dtype, gamma)


def test_the_bounds_are_those_of_the_conformance_table() -> None:
    assert spec.RELATIVE["float32"] == _proof.RELATIVE
    assert spec.SOFTMAX_FLOOR == _proof.SOFTMAX_FLOOR


@pytest.mark.parametrize("gamma", [None, 0.0, 0.5, 2.3])
def test_the_reference_is_the_composite_and_its_gradient(gamma: float | None) -> None:
    z, y = Z.double().requires_grad_(), torch.arange(9) % 5
    kind = Softmax() if gamma is None else OneVsAll(gamma)
    scale = torch.linspace(0, 2, 9, dtype=torch.float64)
    value = formulas.class_balanced_loss(
        _ops, kind.sample_loss, z, y, None, axis=1, valid=None, sample_weight=scale, reduction="none", label_smoothing=0
    )
    expected = value, torch.autograd.grad(value.sum(), z)[0]
    torch.testing.assert_close(triton.reference(z.detach(), y, scale, gamma), expected, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("gamma", [None, 0.0, 2.0])
def test_kernels_prove_themselves_once_for_a_dtype_and_a_variant(gamma: float | None) -> None:
    kernels = Kernels()
    assert [refusal(kernels, gamma=gamma) for _ in range(2)] == [None, None]
    assert kernels.runs == 2  # two batches
    assert refusal(kernels, torch.bfloat16, gamma) is None
    assert kernels.runs == 4
    assert refusal(kernels, torch.float32, 2.0 if gamma is None else None) is None
    assert kernels.runs == 6
    assert refusal(kernels, torch.float32, 2.0 if gamma is None else gamma / 2) is None  # of a variant that is known
    assert kernels.runs == 6


def test_kernels_are_tried_again_on_another_device() -> None:
    kernels = Kernels()
    others = [torch.device("cpu", 0), CPU]
    assert [_proof.refusal(kernels, triton.reference, device, torch.float32, 2.0) for device in others] == [None, None]
    assert kernels.runs == 4


def test_what_raises_is_refused_with_one_warning_that_says_how_to_report_it() -> None:
    kernels = Raising(ValueError("no such instruction"))
    with pytest.warns(RuntimeWarning) as caught:
        assert [refusal(kernels) for _ in range(3)] == ["ValueError: no such instruction"] * 3
    (text,) = [str(warning.message) for warning in caught]
    for part in ("one-vs-all, torch.float32", "cpu", "no such instruction", "bug report", cbcore.__version__):
        assert part in text
    assert torch.__version__ in text
    assert kernels.runs == 1


def test_a_warning_that_raises_leaves_the_verdict() -> None:
    kernels = Raising(ValueError("no such instruction"))
    with warnings.catch_warnings(action="error"), pytest.raises(RuntimeWarning, match="bug report"):
        refusal(kernels)
    assert refusal(kernels) == "ValueError: no such instruction"
    assert kernels.runs == 1


def test_where_the_largest_difference_is() -> None:
    class Off(Kernels):
        def gradient(self, upstream: Tensor, z: Tensor, *rest: Any) -> Tensor:
            made = super().gradient(upstream, z, *rest)
            made[2, 1] += 1
            made[2, 3] -= 2
            return made

    with pytest.warns(RuntimeWarning, match=r"gradient\[2, 3\] of softmax is .* and must be .*, within "):
        assert refusal(Off(), gamma=None) is not None


@pytest.mark.parametrize("allocate", [torch.empty_like, lambda x: x.new_empty(x.shape), lambda x: torch.empty(x.shape)])
@pytest.mark.parametrize("gamma", [None, 0.5])
def test_an_element_that_is_not_written_is_no_zero_by_chance(
    allocate: Callable[[Tensor], Tensor], gamma: float | None
) -> None:
    class Partial(Kernels):
        def gradient(self, upstream: Tensor, z: Tensor, target: Tensor, scale: Tensor, *rest: Any) -> Tensor:
            torch.zeros_like(z)  # where an allocation of that size would be found again
            made, live = allocate(z), scale != 0
            made[live] = super().gradient(upstream, z, target, scale, *rest)[live]
            return made

    with pytest.warns(RuntimeWarning, match=r"gradient\[13, 0\] of .* is nan and must be -?0"):
        assert refusal(Partial(), gamma=gamma) is not None


def test_nothing_is_tried_while_a_graph_is_captured(monkeypatch: pytest.MonkeyPatch) -> None:
    kernels, unproved = Kernels(), Kernels()
    assert refusal(kernels) is None
    with monkeypatch.context() as patch:
        patch.setattr(torch.cuda, "is_available", lambda: True)
        patch.setattr(torch.cuda, "is_current_stream_capturing", lambda: True)
        assert refusal(unproved) == _proof.CAPTURING
        assert refusal(kernels) is None
    assert unproved.runs == 0
    assert refusal(unproved) is None


def test_without_memory_they_are_tried_again() -> None:
    kernels = Raising(torch.OutOfMemoryError("no memory"))
    assert refusal(kernels) == _proof.NO_MEMORY
    kernels.error = ValueError("no such instruction")
    with pytest.warns(RuntimeWarning, match="no such instruction"):
        assert refusal(kernels) == "ValueError: no such instruction"


def test_threads_that_come_together_try_once() -> None:
    kernels = Raising(ValueError("no such instruction"))
    with pytest.warns(RuntimeWarning) as caught, ThreadPoolExecutor(8) as pool:
        assert set(pool.map(lambda _: refusal(kernels), range(32))) == {"ValueError: no such instruction"}
    assert len(caught) == kernels.runs == 1


def test_what_another_thread_found_meanwhile_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    kernels = Kernels()

    class Lock(nullcontext[None]):
        def __enter__(self) -> None:
            _proof._verdicts[kernels, CPU, torch.float32, "one-vs-all"] = "found meanwhile"

    monkeypatch.setattr(_proof, "_lock", Lock())
    assert refusal(kernels) == "found meanwhile"
    assert kernels.runs == 0


@contextmanager
def default_dtype(dtype: torch.dtype) -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    yield
    torch.set_default_dtype(before)


def untouched(_: Tensor) -> Tensor:
    raise AssertionError("something was saved for a backward")


@pytest.mark.parametrize(
    "context",
    [
        nullcontext,
        torch.inference_mode,
        lambda: torch.device("meta"),
        lambda: default_dtype(torch.float64),
        lambda: torch.autocast("cpu", torch.bfloat16),
        lambda: torch.autograd.graph.saved_tensors_hooks(untouched, untouched),
    ],
    ids=["none", "inference", "default device", "default dtype", "autocast", "saved tensors"],
)
@pytest.mark.parametrize("gamma", [None, 0.5])
def test_what_surrounds_the_first_call_changes_nothing(
    context: Callable[[], AbstractContextManager[Any]], gamma: float | None
) -> None:
    state = torch.get_rng_state()
    with context():
        assert refusal(Kernels(), torch.float16, gamma) is None
    assert torch.equal(torch.get_rng_state(), state)


def refused(gamma: float | None, monkeypatch: pytest.MonkeyPatch) -> str | None:
    """Ask the path whether it takes a small call on the CPU."""
    monkeypatch.setattr(triton, "DEVICES", ("cpu",))
    kind = Softmax() if gamma is None else OneVsAll(gamma)
    call = Call(kind, Z, torch.zeros(len(Z), dtype=torch.int64), None, None, 1, None, "mean", 0.0, None)
    return triton.refuses(call)


def test_a_triton_that_cannot_be_imported_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cbcore_torch._triton", None)
    monkeypatch.delattr("cbcore_torch._triton", raising=False)
    triton.kernels.cache_clear()
    try:
        assert (refused(2.0, monkeypatch) or "").startswith("Triton cannot be imported (ModuleNotFoundError: ")
    finally:
        triton.kernels.cache_clear()


def test_large_gammas_are_left_to_others(monkeypatch: pytest.MonkeyPatch) -> None:
    kernels: Any = Kernels()
    kernels.GAMMA_LIMIT = 7.0
    monkeypatch.setattr(triton, "kernels", lambda: kernels)
    assert refused(7.0, monkeypatch) == "the kernels do not know OneVsAll(gamma=7.0)"
    assert refused(6.5, monkeypatch) is None
    assert refused(None, monkeypatch) is None
