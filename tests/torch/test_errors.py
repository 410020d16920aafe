"""Errors of the PyTorch losses: the same texts as the core's, in PyTorch's names."""
# ruff: noqa: E501 -- a row a case

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from cbcore import class_weights
from cbcore_torch import SigmoidFocalLoss, SoftmaxCrossEntropy, param_groups, sigmoid_focal_loss, softmax_cross_entropy

Z, Y = torch.zeros(4, 3), torch.tensor([0, 1, 2, 0])
HEAD = torch.nn.Linear(2, 3)

CASES: list[tuple[Callable[[], Any], type[Exception], str]] = [
    (lambda: softmax_cross_entropy(Z, Y[:, None]), ValueError, "target must be integers of shape (4,) (class indices) or floats of shape (4, 3) (as input), got torch.int64 of shape (4, 1); reshape target to (4,)"),
    (lambda: softmax_cross_entropy(Z, Z.long()), ValueError, "got torch.int64 of shape (4, 3); cast one-hot or multi-hot target to a floating dtype"),
    (lambda: softmax_cross_entropy(Z, Y[:2]), ValueError, "got torch.int64 of shape (2,); check the class axis and the order of the arguments input and target"),
    (lambda: softmax_cross_entropy(Z, Z[:, :2]), ValueError, "got torch.float32 of shape (4, 2)"),
    (lambda: softmax_cross_entropy(Z, Y.float()), ValueError, "cast class indices in target to integers"),
    (lambda: softmax_cross_entropy(Z, Z > 0), TypeError, "target must be integers or floats, got torch.bool"),
    (lambda: softmax_cross_entropy(Y, Z), TypeError, "swap input and target"),
    (lambda: softmax_cross_entropy(Z.long(), Y), TypeError, "input must be floating point (raw scores of the model), got torch.int64"),
    (lambda: softmax_cross_entropy(Z, Y, torch.ones(4)), ValueError, "class_weights must have shape (3,), one for each class, got (4,)"),
    (lambda: softmax_cross_entropy(Z, Y, np.ones(3)), TypeError, "class_weights must be a torch.Tensor, got numpy.ndarray; make it with torch.as_tensor, once, before the training loop"),  # type: ignore[arg-type]
    (lambda: softmax_cross_entropy(Z, [0, 1, 2, 0]), TypeError, "target must be a torch.Tensor, got builtins.list"),  # type: ignore[arg-type]
    (lambda: softmax_cross_entropy(Z, None), TypeError, "target must be a torch.Tensor, got builtins.NoneType"),  # type: ignore[arg-type]
    (lambda: softmax_cross_entropy(None, Y), TypeError, "input must be a torch.Tensor, got builtins.NoneType"),  # type: ignore[arg-type]
    (lambda: param_groups(HEAD, head=HEAD, weight_decay=torch.inf), ValueError, "weight_decay must be finite, got inf"),
    (lambda: softmax_cross_entropy(Z, Y, sample_weight=torch.ones(4, 1)), ValueError, "sample_weight must have shape (4,), one for each sample, got (4, 1)"),
    (lambda: class_weights([5, 2], torch.nn.Parameter(torch.tensor(0.9))), TypeError, "beta must be plain numbers, got a Parameter that requires a gradient"),
    (lambda: softmax_cross_entropy(Z, Y, dim=2), ValueError, "dim must name an axis of input, got 2 for input of shape (4, 3)"),
    (lambda: softmax_cross_entropy(Z, Y, dim=-3), ValueError, "dim must be at least -2, got -3"),
    (lambda: softmax_cross_entropy(Z, Y, reduction="batchmean"), ValueError, "reduction must be one of 'none', 'sum', 'mean', 'weighted_mean'; got 'batchmean'"),
    (lambda: softmax_cross_entropy(Z, Y, label_smoothing=-0.1), ValueError, "label_smoothing must be in [0, 1], got -0.1"),
    (lambda: sigmoid_focal_loss(Z, Y, gamma=-0.5), ValueError, "gamma must be at least 0, got -0.5"),
    (lambda: sigmoid_focal_loss(Z, Y, gamma="2x"), TypeError, "gamma must be a number, got '2x' (str)"),  # type: ignore[arg-type]
    (lambda: SigmoidFocalLoss(gamma=-1), ValueError, "gamma must be at least 0, got -1"),
    (lambda: SoftmaxCrossEntropy(reduction="avg"), ValueError, "reduction must be one of"),
    (lambda: SoftmaxCrossEntropy(torch.tensor([500, 3])), TypeError, "class_weights must be floating point, got torch.int64; for class counts call from_counts(class_counts, beta)"),
    (lambda: SoftmaxCrossEntropy([[1.0, 2.0]]), ValueError, "class_weights must have shape (C,), one for each class, got (1, 2)"),
    (lambda: SoftmaxCrossEntropy.from_counts([5, 0]), ValueError, 'choose empty="zero" (weight 0) or empty="one"'),
    (lambda: SoftmaxCrossEntropy([900, 90, 10]), TypeError, "class_weights must be floating point, got int64; for class counts call from_counts(class_counts, beta)"),
    (lambda: SoftmaxCrossEntropy(np.array([90, 10], np.uint8)), TypeError, "class_weights must be floating point, got uint8"),
    (lambda: SoftmaxCrossEntropy([True, False]), TypeError, "class_weights must be floating point, got bool"),
    (lambda: SoftmaxCrossEntropy([900.0, 90.0, 10.0]), ValueError, "class_weights must be weights, got whole numbers that average 333.3, as class counts do"),
    (lambda: SoftmaxCrossEntropy(torch.tensor([900.0, 90.0])), ValueError, "class_weights must be weights, got whole numbers"),
    (lambda: SoftmaxCrossEntropy([1.0, -0.5]), ValueError, "class_weights must be finite and not negative, got -0.5 for class 1"),
    (lambda: SoftmaxCrossEntropy(torch.tensor([1.0, torch.inf])), ValueError, "class_weights must be finite and not negative, got inf for class 1"),
    (lambda: softmax_cross_entropy(Z, Y, torch.tensor([900, 90, 10])), TypeError, "class_weights must be floating point, got torch.int64"),
    (lambda: sigmoid_focal_loss(Z, Y, torch.tensor([True, True, False])), TypeError, "class_weights must be floating point, got torch.bool"),
    (lambda: softmax_cross_entropy(Z, Y, ignore_index=[0, 1]), TypeError, "ignore_index must be an integer (the one index to ignore) or None (nothing is ignored), got [0, 1] (list)"),  # type: ignore[arg-type]
    (lambda: SoftmaxCrossEntropy(ignore_index="255"), TypeError, "ignore_index must be an integer"),  # type: ignore[arg-type]
    (lambda: SoftmaxCrossEntropy(dim=1.5), TypeError, "dim must be an integer, got 1.5 (float)"),  # type: ignore[arg-type]
    (lambda: SoftmaxCrossEntropy(unlabelled_weight=-1), ValueError, "unlabelled_weight must be at least 0, got -1"),
    (lambda: sigmoid_focal_loss(Z, Y, gamma="2"), TypeError, "gamma must be a number, got '2' (str)"),  # type: ignore[arg-type]
    (lambda: sigmoid_focal_loss(Z, Y, gamma=torch.nn.Parameter(torch.tensor(2.0))), TypeError, "gamma must be a fixed number, got Parameter"),  # type: ignore[arg-type]
    (lambda: SigmoidFocalLoss(gamma=np.array([2.0])), TypeError, "gamma must be a number"),  # type: ignore[arg-type]
    (lambda: SoftmaxCrossEntropy(weight=torch.ones(3)), TypeError, "SoftmaxCrossEntropy must be given options that it has, got weight=...; weights of classes are class_weights here"),
    (lambda: SigmoidFocalLoss(alpha=0.25), TypeError, "SigmoidFocalLoss must be given options that it has, got alpha=...; weights of classes are class_weights here"),
    (lambda: SoftmaxCrossEntropy(beta=0.999), TypeError, "got beta=...; that is for from_counts(class_counts, beta)"),
    (lambda: SoftmaxCrossEntropy(samples_per_class=[3, 2]), TypeError, "got samples_per_class=...; that is for from_counts(class_counts, beta)"),
    (lambda: SigmoidFocalLoss.from_counts([3, 2], pos_weight=1), TypeError, "got pos_weight=...; weights of classes are class_weights here"),
    (lambda: SigmoidFocalLoss.from_counts([3, 2], from_logits=True), TypeError, "got from_logits=...; the losses always take logits"),
    (lambda: SoftmaxCrossEntropy.from_counts([3, 2], class_weights=[0.5, 1.5]), TypeError, "SoftmaxCrossEntropy.from_counts must be given options that it has, got class_weights=..."),
    (lambda: torch.jit.script(torch.nn.Sequential(SoftmaxCrossEntropy([0.5, 1.5]))), TypeError, "SoftmaxCrossEntropy must be compiled with torch.compile or exported with torch.export, got torch.jit.script"),
]  # fmt: skip


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning", "ignore:.*torch.jit:FutureWarning")
@pytest.mark.parametrize(("call", "kind", "text"), CASES, ids=[text[:60] for _, _, text in CASES])
def test_error(call: Callable[[], Any], kind: type[Exception], text: str) -> None:
    with pytest.raises(kind) as caught:
        call()
    assert type(caught.value) is kind
    assert text in str(caught.value)
