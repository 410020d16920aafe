"""What the reductions add up to and what they expect, over parts and over batches: reductions.md."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import cbcore
from tests.docs.shared import betas, class_counts


def batch(size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    r = np.random.default_rng(size)
    return r.normal(size=(size, 3)), r.integers(0, 3, size), np.array([0.1, 0.5, 2.4])


@given(st.lists(st.integers(1, 6), min_size=1, max_size=5))
def test_mean_adds_up_over_parts_of_any_size(sizes: list[int]) -> None:
    logits, targets, weights = batch(sum(sizes))
    cuts = np.cumsum([0, *sizes])
    parts = [
        cbcore.softmax_cross_entropy(logits[a:b], targets[a:b], weights) * (b - a) / len(targets)
        for a, b in itertools.pairwise(cuts)
    ]
    assert sum(parts) == pytest.approx(cbcore.softmax_cross_entropy(logits, targets, weights), rel=1e-13)


def test_average_of_weighted_means_is_not_the_weighted_mean() -> None:
    logits, _, weights = batch(4)
    for targets, equal in (([0, 2, 2, 0], True), ([0, 0, 2, 2], False)):
        y = np.array(targets)
        parts = [
            cbcore.softmax_cross_entropy(logits[a : a + 2], y[a : a + 2], weights, reduction="weighted_mean")
            for a in (0, 2)
        ]
        whole = cbcore.softmax_cross_entropy(logits, y, weights, reduction="weighted_mean")
        assert (abs(sum(parts) / 2 - whole) < 1e-12) == equal


def test_weighted_mean_of_one_class_forgets_its_weight() -> None:
    logits, _, weights = batch(4)
    targets = np.full(4, 2)
    plain = cbcore.softmax_cross_entropy(logits, targets)
    forgets = cbcore.softmax_cross_entropy(logits, targets, weights, reduction="weighted_mean")
    assert forgets == pytest.approx(plain, rel=1e-13)
    assert cbcore.softmax_cross_entropy(logits, targets, weights) == pytest.approx(2.4 * plain, rel=1e-13)


@given(class_counts, betas, st.floats(1e-3, 1e3))
def test_weighted_mean_ignores_the_scale_of_the_weights(n: np.ndarray, beta: float, scale: float) -> None:
    weights = cbcore.class_weights(n[:3] if n.size > 2 else [5, 1, 1], beta)
    logits, targets, _ = batch(5)
    one, other = (
        cbcore.softmax_cross_entropy(logits, targets, w, reduction="weighted_mean") for w in (weights, weights * scale)
    )
    assert one == pytest.approx(other, rel=1e-12)


def expected_share(rare: float, size: int, weight: float, weights: tuple[float, float]) -> float:
    """Return E[w / (w + S)], S the weights of the other `size` - 1 samples of a batch."""
    other = size - 1
    chances = [math.comb(other, k) * rare**k * (1 - rare) ** (other - k) for k in range(size)]
    return sum(c * weight / (weight + k * weights[1] + (other - k) * weights[0]) for k, c in enumerate(chances))


def test_weighted_mean_weakens_the_weights() -> None:
    weights, rare = (1.0, 99.0), 0.01
    ratios = [
        expected_share(rare, size, weights[1], weights) / expected_share(rare, size, weights[0], weights)
        for size in (1, 2, 8, 64, 512)
    ]
    assert ratios[0] == pytest.approx(1)
    assert ratios == sorted(ratios)
    assert 80 < ratios[-1] < 99


def over_batches(reduction: str) -> tuple[float, np.ndarray]:
    """Return the expected loss of a batch of three, over all batches, and the two losses that it is made of."""
    logits = np.array([[0.3, -0.2], [1.1, 0.4]])  # of a sample of class 0 and of one of class 1
    expected = 0.0
    for labels in itertools.product((0, 1), repeat=3):
        y = np.array(labels)
        chance = math.prod(SHARES[y])
        expected += chance * cbcore.softmax_cross_entropy(logits[y], y, np.array(TWO_WEIGHTS), reduction=reduction)
    return expected, cbcore.softmax_cross_entropy(logits, np.array([0, 1]), reduction="none")


SHARES, TWO_WEIGHTS = np.array([0.75, 0.25]), (1.0, 9.0)


def test_expected_mean_by_counting_batches() -> None:
    expected, losses = over_batches("mean")
    assert expected == pytest.approx(SHARES @ (TWO_WEIGHTS * losses), rel=1e-12)


def test_expected_weighted_mean_by_counting_batches() -> None:
    """It has the class weights rho(w), not w."""
    expected, losses = over_batches("weighted_mean")
    rho = [3 * expected_share(SHARES[1], 3, w, TWO_WEIGHTS) for w in TWO_WEIGHTS]
    assert expected == pytest.approx(SHARES @ (rho * losses), rel=1e-12)
