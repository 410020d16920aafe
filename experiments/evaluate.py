"""What is measured on the test set: one row of numbers a sample, and their summary. Pure functions."""

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

Array: TypeAlias = npt.NDArray[np.float64]
Integers: TypeAlias = npt.NDArray[np.int64]

# Of a sample: is the class the first, among the first five; of the softmax: the largest probability and -log p_y,
# and both again, with the first class, after log w is subtracted from the logits (class of weight 0: probability 0).
COLUMNS = ("top1", "top5", "confidence", "nll", "adjusted_top1", "adjusted_confidence", "adjusted_nll")
ECE_BINS = 15


def sample_scores(logits: Tensor, labels: Tensor, class_weights: Tensor) -> Tensor:
    """Return `COLUMNS` of each sample, shape (N, 7)."""
    five = logits.topk(min(5, logits.shape[1])).indices == labels[:, None]
    adjusted = torch.where(class_weights > 0, logits - class_weights.log(), -torch.inf)
    before, after = (_softmax_scores(z, labels) for z in (logits, adjusted))
    return torch.stack([five[:, 0], five.any(1), before[1], before[2], *after], dim=1)


def _softmax_scores(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    log_probabilities = logits.log_softmax(1)
    top, index = log_probabilities.max(1)
    return (index == labels).float(), top.exp(), -log_probabilities.gather(1, labels[:, None])[:, 0]


def summarise(scores: Array, labels: Integers, class_counts: Integers, softmax: bool) -> dict[str, Any]:
    """Return the metrics as JSON has them: fractions, and None for what is not defined or not finite.

    Parameters
    ----------
    scores : array, shape (N, 7)
        From `sample_scores`.
    labels : array of int64, shape (N,)
        Of the test set.
    class_counts : array of int64, shape (C,)
        Training samples per class.
    softmax : bool
        Whether the logits are log-probabilities, so that calibration means something.
    """
    column = dict(zip(COLUMNS, scores.T, strict=True))
    recall = class_recall(column["top1"], labels, len(class_counts))
    metrics: dict[str, Any] = {
        "top1_error": float((1 - column["top1"]).mean()),
        "top5_error": float((1 - column["top5"]).mean()),
        "balanced_accuracy": float(np.nanmean(recall)),
        **{name: _number(value) for name, value in shot_recall(recall, class_counts).items()},
        "recall": [_number(value) for value in recall],
    }
    for name, prefix in (("before", ""), ("after", "adjusted_")):
        ece = expected_calibration_error(column[f"{prefix}confidence"], column[f"{prefix}top1"])
        metrics[f"ece_{name}"] = ece if softmax else None
        metrics[f"nll_{name}"] = _number(column[f"{prefix}nll"].mean()) if softmax else None
    return metrics


def class_recall(correct: Array, labels: Integers, num_classes: int) -> Array:
    """Return the share of each class that is found, NaN for a class without a test sample."""
    totals = np.bincount(labels, minlength=num_classes)
    hits = np.bincount(labels, correct, minlength=num_classes)
    with np.errstate(invalid="ignore"):
        return np.asarray(hits / totals, np.float64)


def shot_recall(recall: Array, class_counts: Integers) -> dict[str, float]:
    """Return the mean recall of classes with many (> 100), medium (20 to 100) and few (< 20) training samples.

    NaN for a group without a class that is tested.
    """
    many, few = class_counts > 100, class_counts < 20
    groups = {"many": many, "medium": ~many & ~few, "few": few}
    tested = ~np.isnan(recall)
    return {
        name: float(recall[group & tested].mean()) if (group & tested).any() else float("nan")
        for name, group in groups.items()
    }


def expected_calibration_error(confidence: Array, correct: Array, bins: int = ECE_BINS) -> float:
    """Return the mean of |accuracy - confidence| over equal bins of the confidence, weighted by their samples."""
    # A confidence on an edge belongs to the bin below it.
    index = np.clip(np.ceil(confidence * bins).astype(np.int64) - 1, 0, bins - 1)
    gaps = np.bincount(index, correct - confidence, minlength=bins)
    return float(np.abs(gaps).sum() / len(confidence))


def _number(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
