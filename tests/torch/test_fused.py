"""The fused CPU path: when it is taken, and that it behaves as any differentiable function."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
from torch.func import functional_call, grad, hessian, jvp, vmap
from torch.fx.experimental.proxy_tensor import make_fx

import cbcore_torch
from cbcore_torch._paths import closed, numba
from tests.support.losses import taught
from tests.support.torch_adapter import LOSSES, force

Z = torch.randn(12, 7, generator=torch.Generator().manual_seed(0)) * 3
Y = torch.tensor([0, 6, 3, -100, 1, 5, 2, 2, 4, -100, 0, 1])
W = torch.linspace(0.2, 3, 7)
PATHS = ["numba", "closed form", "NumPy", "small"]

each_path = pytest.mark.parametrize("path", PATHS)
each_loss = pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)
each_taught = pytest.mark.parametrize("loss", (TAUGHT := taught(cbcore_torch)).values(), ids=TAUGHT)


def composite(function: Any) -> Any:
    with force("composite"):
        return function()


def taken(*arguments: Any, **options: Any) -> str:
    with cbcore_torch.paths() as records:
        cbcore_torch.sigmoid_focal_loss(*arguments, **options)
    return records[0].path


def test_which_path_is_taken_and_why() -> None:
    learned = W.clone().requires_grad_()
    assert taken(Z, Y, W) == "numba"
    assert taken(Z, Y, W, sample_weight=torch.ones(12), dim=1) == "numba"
    assert taken(Z.bfloat16(), Y) == "numba"
    assert taken(Z.double(), Y, W) == taken(Z.half(), Y, W) == "closed form"
    assert taken(Z.to("meta"), Y.to("meta")) == "closed form"
    assert taken(Z, Z.softmax(1), W) == taken(Z, Y, W, label_smoothing=0.1) == "closed form"
    assert taken(Z, Y, W, gamma=16.0) == "NumPy"
    assert taken(Z.repeat(400, 1), Y.repeat(400), W, gamma=16.0) == "closed form"
    assert taken(Z[:0], Y[:0], W) == "composite"
    assert taken(Z, Y, learned) == taken(Z, Y, W, sample_weight=learned[:1].expand(12)) == "composite"
    assert taken(Z, learned.expand(12, 7)) == "composite"
    with torch.autograd.forward_ad.dual_level():
        assert taken(Z, Y, W) == "composite"
    with cbcore_torch.paths() as records:
        cbcore_torch.softmax_cross_entropy(Z, Y, W)
        cbcore_torch.softmax_cross_entropy(Z, Y.clamp(min=0), learned)
    assert list(records[0].refused) == ["small", "numba", "NumPy", "triton"][: len(records[0].refused)]
    assert set(records[1].refused.values()) == {"class_weights requires a gradient"}


@each_path
@each_loss
def test_backward_twice_and_second_derivatives(path: str, loss: Any) -> None:
    with force(path):
        logits = Z.clone().requires_grad_()
        value = loss(logits, Y, W)
        first, again = (torch.autograd.grad(value, logits, retain_graph=True)[0] for _ in range(2))
        assert torch.equal(first, again)
        (graph,) = torch.autograd.grad(value, logits, create_graph=True)
        (second,) = torch.autograd.grad((graph**2).sum(), logits)

    def expected() -> torch.Tensor:
        z = Z.clone().requires_grad_()
        (g,) = torch.autograd.grad(loss(z, Y, W), z, create_graph=True)
        return torch.autograd.grad((g**2).sum(), z)[0]

    torch.testing.assert_close(graph.detach(), first)
    torch.testing.assert_close(second, composite(expected))


@each_path
@each_loss
def test_upstream_gradients(path: str, loss: Any) -> None:
    rows = torch.linspace(-1, 2, 12)

    def gradients() -> list[torch.Tensor]:
        logits = Z.clone().requires_grad_()
        scaled = torch.autograd.grad(loss(logits, Y, W) * 3, logits)[0]
        each = torch.autograd.grad(loss(logits, Y, W, reduction="none"), logits, rows)[0]
        return [scaled, each]

    with force(path):
        result = gradients()
    torch.testing.assert_close(result, composite(gradients))


@pytest.mark.parametrize("path", ["numba", "closed form", "NumPy"])
@each_loss
@pytest.mark.parametrize("rows", [12, 2000, 5000])
@pytest.mark.parametrize("ignored", [-100, 3, None])
@pytest.mark.parametrize("weighted", [False, True])
def test_targets_may_be_overwritten_after_the_forward(
    path: str, loss: Any, rows: int, ignored: int | None, weighted: bool
) -> None:
    """Few rows or many, ignored ones or none: each has a copy of its target."""
    target = torch.arange(rows) % 7
    logits = torch.linspace(-3, 3, rows * 7).view(rows, 7).requires_grad_()
    each = torch.linspace(0, 2, rows) if weighted else None

    def run() -> torch.Tensor:
        return loss(logits, target, W, ignore_index=ignored, sample_weight=each)  # type: ignore[no-any-return]

    with force("composite"):
        (expected,) = torch.autograd.grad(run(), logits)
    with force(path):
        value = run()
    target.zero_()
    torch.testing.assert_close(torch.autograd.grad(value, logits, retain_graph=True)[0], expected)
    torch.testing.assert_close(torch.autograd.grad(value, logits)[0], expected)


def test_a_number_that_may_change_is_looked_at_again() -> None:
    """Options are looked up by their value, and those that could have another one by then are not."""
    smoothing = torch.tensor(0.0)
    before = cbcore_torch.softmax_cross_entropy(Z, Y, label_smoothing=smoothing)  # type: ignore[arg-type]
    smoothing += 0.5
    after = cbcore_torch.softmax_cross_entropy(Z, Y, label_smoothing=smoothing)  # type: ignore[arg-type]
    torch.testing.assert_close(after, cbcore_torch.softmax_cross_entropy(Z, Y, label_smoothing=0.5))
    assert (before - after).abs() > 1e-3
    for wrong in (True, 0.5):
        with pytest.raises(TypeError, match="dim must be an integer"):
            cbcore_torch.softmax_cross_entropy(Z, Y, dim=wrong)  # type: ignore[arg-type]
        cbcore_torch.softmax_cross_entropy(Z, Y, dim=1)


@each_loss
def test_transforms_of_float32(loss: Any) -> None:
    """Where PyTorch transforms or traces, the composite takes over."""

    def function(z: torch.Tensor) -> torch.Tensor:
        return loss(z, Y, W)  # type: ignore[no-any-return]

    def one(z: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return loss(z, y, W)  # type: ignore[no-any-return]

    logits = Z.clone().requires_grad_()
    (expected,) = torch.autograd.grad(loss(logits, Y, W, reduction="sum"), logits)
    torch.testing.assert_close(vmap(grad(one))(Z, Y), expected)
    torch.testing.assert_close(jvp(function, (Z,), (Z,))[1], (expected / 10 * Z).sum())
    assert hessian(function)(Z).isfinite().all()
    torch.testing.assert_close(make_fx(function)(Z)(Z), function(Z))
    torch.testing.assert_close(torch.compile(function, fullgraph=True, backend="aot_eager")(Z), function(Z))
    program = torch.export.export(cbcore_torch.SoftmaxCrossEntropy(W), (Z, Y))
    torch.testing.assert_close(program.module()(Z, Y), cbcore_torch.SoftmaxCrossEntropy(W)(Z, Y))
    functional_call(cbcore_torch.SoftmaxCrossEntropy(W), {}, (Z, Y))


@each_path
@each_loss
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_wide_dense_and_strided(path: str, loss: Any, dtype: torch.dtype) -> None:
    """Rows wider than a kernel's chunk, with the target in any part of them; dense logits with strides."""
    cases = [
        (torch.randn(5, 5000).to(dtype), torch.tensor([0, 2047, 2048, 4999, 2049]), 1),
        (torch.randn(3, 129).to(dtype), torch.tensor([128, 0, 127]), 1),
        (torch.randn(2, 5, 3, 4).to(dtype).transpose(1, 3), torch.randint(0, 4, (2, 3, 5)), 1),
        (torch.randn(300, 7).to(dtype), torch.randint(0, 7, (300,)), 1),
    ]
    for z, y, dim in cases:
        weights = torch.linspace(0.5, 2, z.shape[dim])

        def run(z: torch.Tensor = z, y: torch.Tensor = y, dim: int = dim, w: torch.Tensor = weights) -> Any:
            logits = z.clone().requires_grad_()
            value = loss(logits, y, w, dim=dim)
            return value.detach(), torch.autograd.grad(value, logits)[0]

        version, before = z._version, z.clone()
        with force(path):
            result = run()
        tolerance = {"rtol": 1e-5, "atol": 1e-6} if dtype == torch.float32 else {"rtol": 8e-3, "atol": 1e-6}
        torch.testing.assert_close(result, composite(run), **tolerance)
        assert (z._version, torch.equal(z, before)) == (version, True)


@pytest.mark.parametrize("path", [*PATHS, "composite"])
@each_loss
def test_out_of_range_and_ignored(path: str, loss: Any) -> None:
    z = Z.clone()
    z[3] = torch.nan
    z = z.requires_grad_()
    target = Y.clone()
    target[5] = 7
    for weights in (None, W, torch.where(torch.arange(7) == 6, 0.0, W)):
        with force(path):
            value = loss(z, target, weights, reduction="none")
        (gradient,) = torch.autograd.grad(value, z, torch.ones(12))
        assert value.isnan().tolist() == [i == 5 for i in range(12)]
        assert gradient.isnan().any(1).tolist() == [i == 5 for i in range(12)]
        assert not gradient[3].any()


@each_path
@pytest.mark.parametrize("gamma", [0.3, 0.5, 1.0, 1.5, 2.0])
def test_second_derivatives_are_finite_where_the_sigmoid_underflows(path: str, gamma: float) -> None:
    z = torch.tensor([[200.0, -200.0, -90.0], [0.0, -1e4, 50.0]], requires_grad=True)
    with force(path):
        value = cbcore_torch.sigmoid_focal_loss(z, torch.tensor([0, 2]), gamma=gamma)
        (gradient,) = torch.autograd.grad(value, z, create_graph=True)
        (second,) = torch.autograd.grad(gradient.sum(), z)
    assert second.isfinite().all()


@each_path
def test_general_gamma_agrees(path: str) -> None:
    for gamma in (0.1, 3.0, 7.5, 15.0, 17.0):
        with force(path):
            value = cbcore_torch.sigmoid_focal_loss(Z, Y, W, gamma=gamma)
        torch.testing.assert_close(value, cbcore_torch.sigmoid_focal_loss(Z.double(), Y, W, gamma=gamma).float())


BIG, BIG_Y = torch.randn(64, 3000), torch.arange(64)


def big_loss(_: int = 0) -> float:
    return cbcore_torch.sigmoid_focal_loss(BIG, BIG_Y).item()


def test_from_several_threads() -> None:
    expected = big_loss()
    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(big_loss, range(64))) == {expected}


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning", "ignore:.*fork:RuntimeWarning")
def test_after_a_fork() -> None:
    """A child of a process that has used worker threads has none, and makes its own."""
    torch.set_num_threads(2)
    expected = big_loss()
    child = os.fork()
    if child == 0:
        torch.set_num_threads(1)  # PyTorch's own pool does not survive a fork; ours must
        os._exit(0 if abs(_in_child() - expected) < 1e-3 else 1)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0


def _in_child() -> float:
    from cbcore import _kernels

    scale = torch.full((64,), 1 / 64).numpy()
    losses, _ = _kernels.run(BIG.numpy(), BIG_Y.numpy(), scale, 0.5, threads=2, with_gradient=False)
    return float(losses.sum())


@pytest.mark.parametrize("path", ["numba", "closed form"])
@each_taught
def test_without_a_gradient_none_is_made(path: str, loss: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    with force(path):
        for kernels in (numba, closed):
            run = kernels.run
            monkeypatch.setattr(kernels, "run", lambda *arguments, run=run: made.append(run(*arguments)) or made[-1])
        with torch.no_grad():
            value = loss(BIG, BIG_Y)
        torch.testing.assert_close(value, loss(BIG.clone().requires_grad_(), BIG_Y).detach())
    assert [result.gradient is None for result in made] == [True, False]


def test_where_machine_code_cannot_be_kept() -> None:
    """As in a container whose file system is read-only: numba then refuses to keep it, and it is compiled again."""
    script = """
from numba.core import caching
(caching.CacheImpl if hasattr(caching, "CacheImpl") else caching._CacheImpl)._locator_classes = []
import torch, cbcore_torch
with cbcore_torch.paths() as taken:
    loss = cbcore_torch.sigmoid_focal_loss(torch.zeros(3, 4), torch.tensor([0, 1, 2]), gamma=0.0)
    loss = cbcore_torch.sigmoid_focal_loss(torch.zeros(3, 4), torch.tensor([0, 1, 2]), gamma=1.0)
assert taken[1].path == "numba"
assert abs(loss - 2 * 0.6931472) < 1e-5
"""
    subprocess.run([sys.executable, "-c", script], check=True)


@each_path
@each_loss
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_batches_of_several_blocks_and_huge_pages(path: str, loss: Any, dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(0)
    z = (torch.randn(601, 4200, generator=generator) * 3).to(dtype)
    y = torch.randint(4200, (601,), generator=generator)
    y[300], z[300] = -100, torch.nan

    def run() -> Any:
        logits = z.clone().requires_grad_()
        value = loss(logits, y)
        return value.detach(), torch.autograd.grad(value, logits)[0]

    with force(path):
        result = run()
        with torch.no_grad():
            torch.testing.assert_close(loss(z, y), result[0])
    tolerance = {"rtol": 1e-5, "atol": 1e-9} if dtype == torch.float32 else {"rtol": 8e-3, "atol": 1e-9}
    torch.testing.assert_close(result, composite(run), **tolerance)
