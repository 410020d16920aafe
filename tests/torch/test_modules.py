import copy
import io
import pickle
from typing import Any

import numpy as np
import pytest
import torch

import cbcore
import cbcore_torch
from cbcore_torch import SigmoidCrossEntropy, SigmoidFocalLoss, SoftmaxCrossEntropy
from tests.support.losses import FAMILIES, criteria, functions

COUNTS = [500, 70, 9]
LOGITS = torch.randn(6, 3, generator=torch.Generator().manual_seed(0)) * 3
TARGET = torch.tensor([0, 1, 2, 0, 1, 0])
PAIRS: list[tuple[Any, Any, dict[str, Any]]] = [
    (criteria(cbcore_torch)[name], function, {key: default + 1.5 for key, default in FAMILIES[name].options.items()})
    for name, function in functions(cbcore_torch).items()
]
CLASSES = [(cls, options) for cls, _, options in PAIRS]


@pytest.mark.parametrize(("cls", "function", "options"), PAIRS)
def test_module_is_the_function(cls: Any, function: Any, options: dict[str, Any]) -> None:
    weights = torch.as_tensor(cbcore.class_weights(COUNTS, 0.99), dtype=torch.float32)
    sample_weight = torch.linspace(0, 2, 6)
    options = {**options, "ignore_index": 1, "label_smoothing": 0.1, "reduction": "weighted_mean"}
    module = cls.from_counts(COUNTS, 0.99, **options)
    expected = function(LOGITS, TARGET, weights, sample_weight=sample_weight, **options)
    assert torch.equal(module(LOGITS, TARGET, sample_weight), expected)
    last = cls.from_counts(COUNTS, num_prototypes=100, dim=-1, **options)
    torch.testing.assert_close(last(LOGITS[None], TARGET[None], sample_weight[None]), expected)


def test_default_gamma_and_beta_are_the_papers() -> None:
    assert torch.equal(
        SigmoidFocalLoss.from_counts(COUNTS)(LOGITS, TARGET),
        SigmoidFocalLoss.from_counts(COUNTS, 0.999, gamma=0.5)(LOGITS, TARGET),
    )


@pytest.mark.parametrize(("cls", "options"), CLASSES)
def test_pickle_deepcopy_and_state_dict(cls: Any, options: dict[str, Any]) -> None:
    module = cls.from_counts(COUNTS, 0.99, **options)
    expected = module(LOGITS, TARGET)
    for twin in (copy.deepcopy(module), pickle.loads(pickle.dumps(module))):
        assert torch.equal(twin(LOGITS, TARGET), expected)
    file = io.BytesIO()
    torch.save(module.state_dict(), file)
    file.seek(0)
    other = cls([1.0, 1.0, 1.0], **options)
    other.load_state_dict(torch.load(file, weights_only=True))
    assert torch.equal(other(LOGITS, TARGET), expected)
    assert cls(**options).state_dict() == {}


def test_weights_move_with_the_module_and_keep_their_precision() -> None:
    module = SoftmaxCrossEntropy.from_counts(COUNTS)
    exact = module.class_weights.clone()  # type: ignore[union-attr]
    assert module.to("meta").class_weights.is_meta  # type: ignore[union-attr]
    for cast in (torch.nn.Module.half, torch.nn.Module.bfloat16):
        module = SoftmaxCrossEntropy.from_counts(COUNTS)
        assert torch.equal(cast(module).class_weights, exact)
    assert module.double().class_weights.dtype == torch.float64  # type: ignore[union-attr]


def test_dtype_of_the_weights() -> None:
    exact = cbcore.class_weights(COUNTS)
    assert SoftmaxCrossEntropy(exact).class_weights.dtype == torch.float32  # type: ignore[union-attr]
    assert SoftmaxCrossEntropy(torch.from_numpy(exact)).class_weights.dtype == torch.float64  # type: ignore[union-attr]
    assert SoftmaxCrossEntropy.from_counts(torch.tensor(COUNTS)).class_weights.dtype == torch.float32  # type: ignore[union-attr]
    weights = torch.ones(3)
    module = SoftmaxCrossEntropy(weights)
    weights.zero_()
    assert torch.equal(module.class_weights, torch.ones(3))  # type: ignore[arg-type]  # a copy


def test_repr() -> None:
    assert repr(SigmoidFocalLoss()) == "SigmoidFocalLoss(gamma=0.5, reduction='mean')"
    full = SigmoidCrossEntropy([0.5, 2.5], dim=-1, ignore_index=7, reduction="sum", label_smoothing=0.1)
    assert repr(full) == (
        "SigmoidCrossEntropy(num_classes=2, class_weights=0.5..2.5, dim=-1, ignore_index=7, reduction='sum', "
        "label_smoothing=0.1)"
    )
    assert repr(SoftmaxCrossEntropy([1.0, 1.0]).to("meta")) == "SoftmaxCrossEntropy(num_classes=2, reduction='mean')"


@pytest.mark.parametrize(("cls", "options"), CLASSES)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_autocast(cls: Any, options: dict[str, Any], dtype: torch.dtype) -> None:
    """Under autocast the loss of half-precision logits is still computed in float32."""
    module = cls.from_counts(COUNTS, **options)
    logits = LOGITS.to(dtype).requires_grad_()
    with torch.autocast("cpu", dtype=dtype):
        inside = module(logits, TARGET)
    inside.backward()
    assert torch.equal(inside, module(logits, TARGET))
    assert logits.grad is not None
    assert logits.grad.dtype == dtype


def test_agrees_with_torch_cross_entropy() -> None:
    weights = torch.tensor([0.2, 1.0, 3.0])
    for smoothing, ignore in ((0.0, -100), (0.0, 1)):
        ours = cbcore_torch.softmax_cross_entropy(
            LOGITS, TARGET, weights, reduction="weighted_mean", label_smoothing=smoothing, ignore_index=ignore
        )
        theirs = torch.nn.functional.cross_entropy(
            LOGITS, TARGET, weights, label_smoothing=smoothing, ignore_index=ignore
        )
        torch.testing.assert_close(ours, theirs)
    unbatched = cbcore_torch.softmax_cross_entropy(LOGITS[0], TARGET[0])
    torch.testing.assert_close(unbatched, torch.nn.functional.cross_entropy(LOGITS[0], TARGET[0]))


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int8, torch.int16, torch.int32])
def test_any_integer_dtype_of_targets(dtype: torch.dtype) -> None:
    module = SoftmaxCrossEntropy.from_counts(COUNTS)
    assert torch.equal(module(LOGITS, TARGET.to(dtype)), module(LOGITS, TARGET))


@pytest.mark.parametrize(("_", "function", "options"), PAIRS)
@pytest.mark.parametrize("bad", [3, -1, 10**9])
def test_target_out_of_range_is_nan_never_another_class(
    _: Any, function: Any, options: dict[str, Any], bad: int
) -> None:
    target = torch.tensor([0, bad, 2, -100, 1, 0])
    for weights in (None, torch.tensor([0.2, 1.0, 3.0])):
        loss = function(LOGITS, target, weights, reduction="none", **options)
        assert loss.isnan().tolist() == [False, True, False, False, False, False]
        assert function(LOGITS, target, weights, **options).isnan()


def test_gradient_accumulation_equals_the_full_batch() -> None:
    """What "mean" divides by: samples, so equal parts of a batch average to the batch."""
    module = SigmoidFocalLoss.from_counts(COUNTS)
    whole = LOGITS.clone().requires_grad_()
    module(whole, TARGET).backward()
    parts = LOGITS.clone().requires_grad_()
    for part, target in zip(parts.split(2), TARGET.split(2), strict=True):
        (module(part, target) / 3).backward()
    torch.testing.assert_close(parts.grad, whole.grad)


def test_weights_can_be_learned() -> None:
    """A sample weight of zero hides nothing from its own gradient (learning to re-weight)."""
    sample_weight = torch.zeros(6, requires_grad=True)
    cbcore_torch.softmax_cross_entropy(LOGITS, TARGET, sample_weight=sample_weight, reduction="sum").backward()
    each = cbcore_torch.softmax_cross_entropy(LOGITS, TARGET, reduction="none")
    torch.testing.assert_close(sample_weight.grad, each)


def test_float64_weights_of_numpy_reach_float64_logits() -> None:
    weights = torch.from_numpy(cbcore.class_weights(COUNTS))
    ours = SoftmaxCrossEntropy(weights)(LOGITS.double(), TARGET)
    core = cbcore.softmax_cross_entropy(LOGITS.double().numpy(), TARGET.numpy(), weights.numpy())
    np.testing.assert_allclose(ours.numpy(), core, rtol=1e-14)


@pytest.mark.parametrize(("_", "function", "options"), PAIRS)
def test_ignore_index_of_none_ignores_nothing(_: Any, function: Any, options: dict[str, Any]) -> None:
    each = function(LOGITS, TARGET, reduction="none", **options)
    assert torch.equal(function(LOGITS, TARGET, ignore_index=None, **options), function(LOGITS, TARGET, **options))
    for logits in (LOGITS, LOGITS.double()):
        loss = function(logits, TARGET - 100, ignore_index=None, reduction="none", **options)
        assert loss.isnan().all()  # -100 is an index like any other then: no class
    for ignored in (1, np.array(1), np.int16(1), torch.tensor(1)):
        loss = function(LOGITS, TARGET, ignore_index=ignored, reduction="none", **options)
        torch.testing.assert_close(loss, torch.where(TARGET == 1, 0.0, each))
    for far in (2**70, -(2**63), 10**6):
        assert torch.equal(function(LOGITS, TARGET, ignore_index=far, reduction="none", **options), each)


@pytest.mark.parametrize(("cls", "function", "options"), PAIRS)
def test_rows_without_a_label(cls: Any, function: Any, options: dict[str, Any]) -> None:
    target, weights = torch.zeros(6, 3), torch.tensor([2.0, 4.0, 9.0])
    plain = function(LOGITS, target, reduction="none", **options)
    for chosen, expected in ((None, 5.0), (0, 0.0), (0.25, 0.25), (np.array(3.0), 3.0)):
        options = {**options, "unlabelled_weight": chosen, "reduction": "none"}
        torch.testing.assert_close(function(LOGITS, target, weights, **options), plain * expected)
        torch.testing.assert_close(cls(weights, **options)(LOGITS, target), plain * expected)
    assert "unlabelled_weight=0.25" in repr(cls(unlabelled_weight=0.25))


@pytest.mark.parametrize("gamma", [2, 2.0, np.array(2.0), np.float32(2), torch.tensor(2.0)])
def test_gamma_of_any_kind_of_number(gamma: Any) -> None:
    expected = cbcore_torch.sigmoid_focal_loss(LOGITS, TARGET, gamma=2.0)
    assert torch.equal(cbcore_torch.sigmoid_focal_loss(LOGITS, TARGET, gamma=gamma), expected)
    assert torch.equal(SigmoidFocalLoss(gamma=gamma)(LOGITS, TARGET), expected)


def test_weights_by_class_index() -> None:
    module: Any = SoftmaxCrossEntropy({2: 1.5, 0: 0.5, 1: 1.0})
    assert module.class_weights.tolist() == [0.5, 1.0, 1.5]
