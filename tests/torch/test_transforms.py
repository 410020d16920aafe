"""Whatever PyTorch can do with a function, it can do with these losses."""

from typing import Any

import pytest
import torch
from torch.func import functional_call, grad, hessian, jacrev, jvp, vmap

import cbcore_torch
from cbcore_torch import SigmoidCrossEntropy, SigmoidFocalLoss, SoftmaxCrossEntropy
from tests.support.losses import criteria
from tests.support.torch_adapter import LOSSES

WEIGHTS = torch.tensor([0.25, 1.0, 2.0, 0.5], dtype=torch.float64)
LOGITS = torch.randn(5, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 2
INDEX = torch.tensor([0, 3, -100, 1, 2])
SOFT = torch.rand(5, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
MODULES = [*criteria(cbcore_torch).values()]

each_loss = pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)
each_target = pytest.mark.parametrize("target", [INDEX, SOFT], ids=["index", "soft"])


@each_loss
@each_target
def test_numerical_first_and_second_derivatives(loss: Any, target: torch.Tensor) -> None:
    logits = LOGITS.clone().requires_grad_()

    def function(z: torch.Tensor) -> torch.Tensor:
        return loss(z, target, WEIGHTS)  # type: ignore[no-any-return]

    assert torch.autograd.gradcheck(function, logits)
    assert torch.autograd.gradgradcheck(function, logits)


@each_loss
def test_gradients_of_weights(loss: Any) -> None:
    """Class weights and sample weights may be learned."""
    weights = WEIGHTS.clone().requires_grad_()
    rows = torch.rand(5, dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(lambda w, s: loss(LOGITS, INDEX, w, sample_weight=s), (weights, rows))


@each_loss
def test_vmap_grad_gives_each_samples_gradient(loss: Any) -> None:
    def one(z: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return loss(z, y, WEIGHTS)  # type: ignore[no-any-return]

    each = vmap(grad(one))(LOGITS, INDEX)
    logits = LOGITS.clone().requires_grad_()
    loss(logits, INDEX, WEIGHTS, reduction="sum").backward()
    torch.testing.assert_close(each, logits.grad)


@each_loss
@each_target
def test_jvp_and_hessian(loss: Any, target: torch.Tensor) -> None:
    def function(z: torch.Tensor) -> torch.Tensor:
        return loss(z, target, WEIGHTS)  # type: ignore[no-any-return]

    tangent = torch.ones_like(LOGITS)
    _, forward = jvp(function, (LOGITS,), (tangent,))
    torch.testing.assert_close(forward, (grad(function)(LOGITS) * tangent).sum())
    curvature = hessian(function)(LOGITS).reshape(20, 20)
    torch.testing.assert_close(curvature, curvature.T)
    torch.testing.assert_close(curvature, jacrev(grad(function))(LOGITS).reshape(20, 20))


@pytest.mark.parametrize("cls", MODULES)
def test_export_with_a_dynamic_batch(cls: Any) -> None:
    module = cls(WEIGHTS)
    batch = torch.export.Dim("batch", min=2, max=64)
    program = torch.export.export(module, (LOGITS, INDEX), dynamic_shapes=({0: batch}, {0: batch}))
    torch.testing.assert_close(program.module()(LOGITS[:3], INDEX[:3]), module(LOGITS[:3], INDEX[:3]))


@pytest.mark.parametrize("cls", MODULES)
def test_compile_of_a_whole_training_step(cls: Any) -> None:
    model, criterion = torch.nn.Linear(3, 4), cls(WEIGHTS.float())
    x = torch.randn(5, 3)

    def forward(x: torch.Tensor, y: torch.Tensor) -> Any:
        return criterion(model(x), y)

    compiled = torch.compile(forward, fullgraph=True, backend="aot_eager")
    gradients = [torch.autograd.grad(f(x, INDEX), list(model.parameters())) for f in (compiled, forward)]
    torch.testing.assert_close(*gradients)


@pytest.mark.parametrize(
    ("cls", "option", "values"),
    [
        (SigmoidFocalLoss, "gamma", (0.5, 2.0, 1.5, 0.3, 5.0)),
        (SoftmaxCrossEntropy, "label_smoothing", (0.0, 0.1, 0.2, 0.3)),
        (SigmoidCrossEntropy, "ignore_index", (-100, 1, 2, 3)),
    ],
)
def test_compiled_options_may_change(cls: Any, option: str, values: tuple[float, ...]) -> None:
    """The second value of a number makes torch.compile treat it as symbolic; gamma decides what is computed."""
    torch.compiler.reset()
    for value in values:
        module = cls(WEIGHTS, **{option: value})
        compiled = torch.compile(module, fullgraph=True, backend="aot_eager")
        torch.testing.assert_close(compiled(LOGITS, INDEX.clamp(0)), module(LOGITS, INDEX.clamp(0)))


@each_loss
@pytest.mark.parametrize(
    ("option", "values"),
    [("ignore_index", (-100, 1, 2, 3)), ("dim", (1, -1, 0, 1)), ("unlabelled_weight", (0.5, 2, 3))],
)
def test_compiled_functions_take_options_that_change(loss: Any, option: str, values: tuple[float, ...]) -> None:
    """Likewise of a function that stays compiled, whatever others were compiled before with other options."""
    torch.compiler.reset()
    logits, targets = LOGITS[:4], torch.eye(4) if option == "unlabelled_weight" else INDEX[:4].clamp(0)
    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")
    for value in values:
        options = {option: value}
        torch.testing.assert_close(compiled(logits, targets, **options), loss(logits, targets, **options))


@pytest.mark.parametrize("cls", MODULES)
def test_functional_call(cls: Any) -> None:
    module = cls(torch.ones(4, dtype=torch.float64))
    replaced = functional_call(module, {"class_weights": WEIGHTS}, (LOGITS, INDEX))
    torch.testing.assert_close(replaced, cls(WEIGHTS)(LOGITS, INDEX))


@each_loss
def test_inputs_are_left_alone_and_may_be_strided(loss: Any) -> None:
    logits = torch.randn(2, 5, 3, 4).transpose(1, 3)
    target = torch.randint(0, 4, (5, 3, 2)).permute(2, 1, 0)
    before = logits.clone(), target.clone()
    value = loss(logits, target, WEIGHTS.float())
    assert torch.equal(logits, before[0])
    assert torch.equal(target, before[1])
    torch.testing.assert_close(value, loss(logits.contiguous(), target.contiguous(), WEIGHTS.float()))


def test_distributed_mean_is_the_mean_over_samples() -> None:
    """Two equal shards average to the whole, which dividing by the weights would not give."""
    halves = [cbcore_torch.softmax_cross_entropy(LOGITS[i : i + 2], INDEX[[0, 1]], WEIGHTS) for i in (0, 2)]
    whole = cbcore_torch.softmax_cross_entropy(LOGITS[:4], INDEX[[0, 1, 0, 1]], WEIGHTS)
    torch.testing.assert_close(sum(halves) / 2, whole)
