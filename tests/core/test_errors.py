"""Every error of the core: its kind, and that its text names the argument, the rule, what came and the fix."""
# ruff: noqa: E501 -- a row a case

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import cbcore

Z, Y = np.zeros((4, 3)), np.array([0, 1, 2, 0])
W = np.ones(3)

CASES: list[tuple[Callable[[], Any], type[Exception], str]] = [
    # counts and labels
    (lambda: cbcore.class_weights([5, -1, 2]), ValueError, "class_counts must not be negative, got -1 for class 1"),
    (lambda: cbcore.class_weights([5.0, np.nan]), ValueError, "class_counts must be finite whole numbers, got nan for class 1"),
    (lambda: cbcore.class_weights([5.0, np.inf]), ValueError, "class_counts must be finite whole numbers, got inf for class 1"),
    (lambda: cbcore.effective_number([5, 2.5], 0.9), ValueError, "class_counts must be finite whole numbers, got 2.5 for class 1"),
    (lambda: cbcore.class_weights(["a"]), TypeError, "class_counts must be numbers, got a (str)"),
    (lambda: cbcore.class_weights([[1, 2]]), ValueError, r"class_counts must have shape (C,) with C >= 1, got (1, 2); for labels call class_counts(labels)"),
    (lambda: cbcore.class_weights([]), ValueError, "class_counts must have shape (C,) with C >= 1, got (0,)"),
    (lambda: cbcore.class_weights([5, 0, 0]), ValueError, 'class_counts must be at least 1 for every class, got 0 for 2 of 3 classes (1, 2), whose weight would be infinite; choose empty="zero" (weight 0) or empty="one" (as if it had one sample)'),
    (lambda: cbcore.class_weights([1] + [0] * 12), ValueError, "(1, 2, 3, 4, 5, 6, 7, 8, 9, 10, ...)"),
    (lambda: cbcore.class_weights([0, 0], empty="zero"), ValueError, "class_counts must hold at least one sample, got zero for every class"),
    (lambda: cbcore.imbalance_factor([0, 0]), ValueError, "class_counts must hold at least one sample"),
    (lambda: cbcore.class_counts([0.0, 1.0]), TypeError, "labels must be integers (class indices), got float64; cast them, e.g. labels.astype(int)"),
    (lambda: cbcore.class_counts([True]), TypeError, "labels must be integers (class indices), got bool"),
    (lambda: cbcore.class_counts([[0], [1]]), ValueError, "labels must have shape (num_samples,), got (2, 1)"),
    (lambda: cbcore.class_counts([0, 5], 3), ValueError, "labels must lie in [0, 3), got values from 0 to 5; subtract 1 if classes are numbered from 1"),
    (lambda: cbcore.class_counts([0, -1]), ValueError, "labels must lie in [0, 1), got values from -1 to 0"),
    (lambda: cbcore.class_counts([]), ValueError, "num_classes must be given where there are no labels"),
    (lambda: cbcore.class_counts([0], 2.5), TypeError, "num_classes must be an integer, got 2.5 (float)"),  # type: ignore[arg-type]
    # beta
    (lambda: cbcore.class_weights([5, 1], 1.5), ValueError, "beta must be in [0, 1], got 1.5; beta = 1 - 1/N lies just below 1, e.g. 0.999"),
    (lambda: cbcore.class_weights([5, 1], -0.1), ValueError, "beta must be in [0, 1], got -0.1"),
    (lambda: cbcore.class_weights([5, 1], np.nan), ValueError, "beta must be in [0, 1], got nan"),
    (lambda: cbcore.class_weights([5, 1], [0.5, 2]), ValueError, "beta must be in [0, 1], got 2.0 for class 1"),
    (lambda: cbcore.class_weights([5, 1], [0.5]), ValueError, "beta must be a scalar or have shape (2,), one for each class; got shape (1,)"),
    (lambda: cbcore.class_weights([5, 1], "0.9"), TypeError, "beta must be a number or an array of numbers, got '0.9'"),
    (lambda: cbcore.class_weights([5, 1], [True, False]), TypeError, "beta must be a number or an array of numbers, got dtype bool"),
    (lambda: cbcore.class_weights([5, 1], num_prototypes=0.5), ValueError, "num_prototypes must be at least 1, got 0.5; N = 1 / (1 - beta), e.g. 1000"),
    (lambda: cbcore.class_weights([5, 1], 0.9, num_prototypes=10), ValueError, "exactly one of beta and num_prototypes must be given, got beta=0.9 and num_prototypes=10"),
    (lambda: cbcore.effective_number([5, 1]), ValueError, "exactly one of beta and num_prototypes must be given, got neither"),
    (lambda: cbcore.class_weights([5, 1], normalize="sum"), ValueError, "normalize must be one of 'classes', 'samples', None; got 'sum'"),  # type: ignore[arg-type]
    (lambda: cbcore.class_weights([5, 1], empty="nan"), ValueError, "empty must be one of 'error', 'zero', 'one'; got 'nan'"),  # type: ignore[arg-type]
    # profiles
    (lambda: cbcore.long_tailed_counts(100, 10, 0.5), ValueError, "imbalance must be at least 1, got 0.5"),
    (lambda: cbcore.long_tailed_counts(100, 10, np.inf), ValueError, "imbalance must be finite, got inf"),
    (lambda: cbcore.long_tailed_counts(100, 10, "many"), TypeError, "imbalance must be a number, got 'many' (str)"),  # type: ignore[arg-type]
    (lambda: cbcore.long_tailed_counts(0, 10, 5), ValueError, "max_count must be at least 1, got 0"),
    (lambda: cbcore.long_tailed_indices([0] * 9 + [1], 2), ValueError, "labels must hold at least 4 samples of class 1 for this imbalance, got 1; number the classes from the largest down"),
    (lambda: cbcore.long_tailed_indices([1, 1], 2), ValueError, "labels must hold samples of class 0"),
    (lambda: cbcore.prior_bias(1), ValueError, "num_classes must be at least 2, got 1"),
    # losses
    (lambda: cbcore.softmax_cross_entropy(np.zeros((4, 3), int), Y), TypeError, "logits must be floating point (raw scores of the model), got int64"),
    (lambda: cbcore.softmax_cross_entropy(Z, Y[:, None]), ValueError, "targets must be integers of shape (4,) (class indices) or floats of shape (4, 3) (as logits), got int64 of shape (4, 1); reshape targets to (4,)"),
    (lambda: cbcore.softmax_cross_entropy(Z, np.zeros((4, 3, 1), int)), ValueError, "got int64 of shape (4, 3, 1); check the class axis and the order of the arguments logits and targets"),
    (lambda: cbcore.softmax_cross_entropy(Z, np.zeros((3, 4))), ValueError, "got float64 of shape (3, 4)"),
    (lambda: cbcore.softmax_cross_entropy(Z, Y.astype(float)), ValueError, "got float64 of shape (4,); cast class indices in targets to integers"),
    (lambda: cbcore.sigmoid_cross_entropy(Z, np.zeros((4, 3), int)), ValueError, "got int64 of shape (4, 3); cast one-hot or multi-hot targets to a floating dtype"),
    (lambda: cbcore.sigmoid_cross_entropy(Z, Z > 0), TypeError, "targets must be integers or floats, got bool"),
    (lambda: cbcore.softmax_cross_entropy(Z, Y + 1), ValueError, "targets must lie in [0, 3), got values from 1 to 3; subtract 1 if classes are numbered from 1, mask samples to be ignored"),
    (lambda: cbcore.softmax_cross_entropy(Z, Y - 100), ValueError, "targets must lie in [0, 3), got values from -100 to -98"),
    (lambda: cbcore.softmax_cross_entropy(Z, Y, np.ones(4)), ValueError, "class_weights must have shape (3,), one for each class, got (4,)"),
    (lambda: cbcore.softmax_cross_entropy(Z, Y, where=Y), TypeError, "where must be boolean (True for samples that count), got int64"),
    (lambda: cbcore.softmax_cross_entropy(Z, Y, where=Z > 0), ValueError, "where must have shape (4,), one for each sample, got (4, 3)"),
    (lambda: cbcore.softmax_cross_entropy(Z, Y, axis=2), ValueError, "axis must name an axis of logits, got 2 for logits of shape (4, 3)"),
    (lambda: cbcore.softmax_cross_entropy(Z[:, :0], Y), ValueError, "logits must have at least one class on axis -1, got shape (4, 0)"),
    (lambda: cbcore.softmax_cross_entropy(Z, Y, reduction="avg"), ValueError, "reduction must be one of 'none', 'sum', 'mean', 'weighted_mean'; got 'avg'"),
    (lambda: cbcore.softmax_cross_entropy(Z, Y, label_smoothing=1.5), ValueError, "label_smoothing must be in [0, 1], got 1.5"),
    (lambda: cbcore.sigmoid_focal_loss(Z, Y, gamma=-1), ValueError, "gamma must be at least 0, got -1"),
    (lambda: cbcore.sigmoid_focal_loss(Z, Y, gamma=np.nan), ValueError, "gamma must be at least 0, got nan"),
    (lambda: cbcore.sigmoid_focal_loss(Z, Y, gamma=np.inf), ValueError, "gamma must be finite, got inf"),
]  # fmt: skip


@pytest.mark.parametrize(("call", "kind", "text"), CASES, ids=[text[:60] for _, _, text in CASES])
def test_error(call: Callable[[], Any], kind: type[Exception], text: str) -> None:
    with pytest.raises(kind) as caught:
        call()
    assert type(caught.value) is kind
    assert text in str(caught.value)
