import math

import numpy as np
import pytest
import torch

from experiments.evaluate import (
    COLUMNS,
    class_recall,
    expected_calibration_error,
    sample_scores,
    shot_recall,
    summarise,
)


def scores_of(logits, labels, weights) -> dict[str, list[float]]:
    rows = sample_scores(torch.tensor(logits).log(), torch.tensor(labels), torch.tensor(weights))
    return dict(zip(COLUMNS, rows.T.tolist(), strict=True))


def test_scores_of_hand_made_probabilities():
    # The weights turn (0.6, 0.3, 0.1) into (0.2, 0.6, 0.2): 0.6 / 3, 0.3 / 0.5, 0.1 / 0.5.
    got = scores_of([[0.6, 0.3, 0.1], [0.6, 0.3, 0.1]], [0, 1], [3.0, 0.5, 0.5])
    assert got["top1"] == [1, 0]
    assert got["top5"] == [1, 1]
    assert got["confidence"] == pytest.approx([0.6, 0.6])
    assert got["nll"] == pytest.approx([-math.log(0.6), -math.log(0.3)])
    assert got["adjusted_top1"] == [0, 1]
    assert got["adjusted_confidence"] == pytest.approx([0.6, 0.6])
    assert got["adjusted_nll"] == pytest.approx([-math.log(0.2), -math.log(0.6)])


def test_a_class_of_weight_0_has_probability_0_after_the_adjustment():
    # Without the third class: (0.6, 0.3) / (3, 0.5) is (0.25, 0.75), normalised.
    got = scores_of([[0.6, 0.3, 0.1]] * 3, [0, 1, 2], [3.0, 0.5, 0.0])
    assert got["adjusted_top1"] == [0, 1, 0]
    assert got["adjusted_confidence"] == pytest.approx([0.75] * 3)
    assert got["adjusted_nll"] == pytest.approx([-math.log(0.25), -math.log(0.75), math.inf])
    assert got["nll"] == pytest.approx([-math.log(p) for p in (0.6, 0.3, 0.1)])


def test_top_5_is_the_first_five_of_many_classes():
    probabilities = [[0.3, 0.2, 0.15, 0.14, 0.11, 0.1]] * 2
    assert scores_of(probabilities, [4, 5], [1.0] * 6)["top5"] == [1, 0]


def test_recall_counts_each_class_and_is_nan_without_samples():
    recall = class_recall(np.array([1.0, 0.0, 1.0]), np.array([0, 0, 2]), 3)
    np.testing.assert_array_equal(recall, [0.5, np.nan, 1.0])


def test_groups_end_at_100_and_20_samples():
    recall = np.array([0.9, 0.5, 0.3, 0.1, np.nan])
    got = shot_recall(recall, np.array([101, 100, 20, 19, 5]))
    assert got == pytest.approx({"many": 0.9, "medium": 0.4, "few": 0.1})
    assert math.isnan(shot_recall(recall[:1], np.array([500]))["few"])


def test_calibration_error_of_two_bins():
    # Bin (0.4, 0.6]: 3 samples, confidence 0.5, accuracy 2/3. Bin (0.8, 1]: 1 sample, 0.9 against 0.
    confidence, correct = np.array([0.5, 0.5, 0.5, 0.9]), np.array([1.0, 1.0, 0.0, 0.0])
    expected = 3 / 4 * abs(2 / 3 - 0.5) + 1 / 4 * 0.9
    assert expected_calibration_error(confidence, correct, bins=5) == pytest.approx(expected)


def test_a_confidence_on_an_edge_is_in_the_bin_below_and_1_in_the_last():
    error = expected_calibration_error(np.array([0.5, 1.0]), np.array([1.0, 0.0]), bins=2)
    assert error == pytest.approx((0.5 + 1.0) / 2)


def summary(softmax: bool) -> dict[str, object]:
    columns = {"top1": [1, 0, 1, 1], "top5": [1, 1, 1, 1], "confidence": [0.5] * 4, "nll": [1.0, 2.0, 3.0, 2.0]}
    columns |= {"adjusted_top1": [0, 0, 1, 1], "adjusted_confidence": [0.5] * 4, "adjusted_nll": [1.0] * 4}
    rows = np.array([columns[name] for name in COLUMNS], float).T
    return summarise(rows, np.array([0, 0, 0, 1]), np.array([200, 50, 50]), softmax)


def test_summary_is_json_without_nan():
    got = summary(softmax=True)
    assert got.pop("recall") == [pytest.approx(2 / 3), 1.0, None]
    shots = {"many": 2 / 3, "medium": 1.0, "few": None}
    errors = {"top1_error": 0.25, "top5_error": 0.0, "balanced_accuracy": 5 / 6}
    calibration = {"ece_before": 0.25, "nll_before": 2.0, "ece_after": 0.0, "nll_after": 1.0}
    assert got == pytest.approx(shots | errors | calibration)


def test_an_infinite_likelihood_is_no_number_in_json():
    rows = np.array([[1.0, 1.0, 0.5, 1.0, 0.0, 0.5, np.inf]])
    got = summarise(rows, np.array([0]), np.array([200]), softmax=True)
    assert (got["nll_before"], got["nll_after"]) == (1.0, None)


def test_calibration_is_for_softmax_only():
    got = summary(softmax=False)
    assert [got[name] for name in ("ece_before", "nll_before", "ece_after", "nll_after")] == [None] * 4
