"""What is measured on the test set. All values are fractions in [0, 1]."""

from typing import NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
from scipy.stats import t as student_t  # type: ignore[import-untyped]
from sklearn.metrics import accuracy_score, balanced_accuracy_score, f1_score, recall_score

Array: TypeAlias = npt.NDArray[np.float64]
Integers: TypeAlias = npt.NDArray[np.int64]


class Scores(NamedTuple):
    """One trained network on the test set; the fields are explained in `evaluate` and `shot_recall`."""

    accuracy: float
    balanced_accuracy: float
    macro_f1: float
    many: float
    medium: float
    few: float
    recall: Array


def evaluate(logits: npt.NDArray[np.float32], labels: Integers, class_counts: Integers) -> Scores:
    """Score the largest logit of each sample.

    Parameters
    ----------
    logits : array, shape (num_samples, C)
        Of a balanced test set.
    labels : array of int64, shape (num_samples,)
        Every class occurs.
    class_counts : array of int64, shape (C,)
        Training samples per class.

    Returns
    -------
    Scores
        `accuracy` is what a test set with the class shares of the *training* set would give (the accuracy of the
        balanced test set is `balanced_accuracy`). `recall` has shape (C,).
    """
    predicted = logits.argmax(axis=1)
    recall = recall_score(labels, predicted, labels=range(len(class_counts)), average=None, zero_division=0)
    return Scores(
        float(accuracy_score(labels, predicted, sample_weight=class_counts[labels])),
        float(balanced_accuracy_score(labels, predicted)),
        float(f1_score(labels, predicted, average="macro", zero_division=0)),
        *shot_recall(recall, class_counts),
        recall=recall,
    )


def shot_recall(recall: Array, class_counts: Integers) -> tuple[float, float, float]:
    """Return the mean recall of classes with many (> 100), medium (20 to 100) and few (< 20) training samples.

    NaN for a group without a class.
    """
    many, medium, few = (
        float(recall[group].mean()) if group.any() else float("nan") for group in shot_groups(class_counts).values()
    )
    return many, medium, few


def shot_groups(class_counts: Integers) -> dict[str, npt.NDArray[np.bool_]]:
    """Return which classes, shape (C,), belong to each group."""
    many, few = class_counts > 100, class_counts < 20
    return {"many": many, "medium": ~many & ~few, "few": few}


def mean_and_error(values: Array) -> tuple[Array, Array]:
    """Return the mean over seeds, the first axis, and its standard error, from at least two seeds."""
    return values.mean(axis=0), values.std(axis=0, ddof=1) / np.sqrt(len(values))


def is_clear(differences: Array) -> bool:
    """Return whether the mean of paired differences, one a seed, is beyond chance: 0 outside its 95 % t interval."""
    mean, error = mean_and_error(differences)
    return bool(abs(mean) > error * student_t.ppf(0.975, len(differences) - 1))
