"""The scale of the weights, and what weights cost: normalisation.md and limits.md."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import cbcore
from tests.docs.shared import betas, class_counts, normalised

CIFAR_10 = cbcore.long_tailed_counts(5000, 10, 100)


@given(class_counts, st.tuples(betas, betas))
def test_mean_sample_weight_falls_from_1_to_harmonic_over_arithmetic_mean(
    n: np.ndarray, pair: tuple[float, float]
) -> None:
    low, high = ((cbcore.class_weights(n, beta) * n).sum() / n.sum() for beta in sorted(pair))
    harmonic = n.size / (1 / n).sum()
    assert harmonic / n.mean() <= high * (1 + 1e-13)
    assert high <= low * (1 + 1e-13)
    assert low <= 1 + 1e-13
    assert (cbcore.class_weights(n, 1.0) * n).sum() / n.sum() == pytest.approx(harmonic / n.mean(), rel=1e-13)


@given(class_counts, betas)
def test_scales_differ_by_the_mean_sample_weight(n: np.ndarray, beta: float) -> None:
    classes, samples = (cbcore.class_weights(n, beta, normalize=scale) for scale in ("classes", "samples"))
    np.testing.assert_allclose(samples * (classes * n).sum() / n.sum(), classes, rtol=1e-13)


def test_first_loss_is_the_mean_sample_weight_times_log_c() -> None:
    labels = np.repeat(np.arange(10), CIFAR_10)
    weights = cbcore.class_weights(CIFAR_10, 0.9999)
    loss = cbcore.softmax_cross_entropy(np.zeros((labels.size, 10)), labels, weights)
    assert loss == pytest.approx((weights * CIFAR_10).sum() / CIFAR_10.sum() * math.log(10), rel=1e-12)


@given(class_counts, betas)
def test_kish_size_is_at_most_the_number_of_samples(n: np.ndarray, beta: float) -> None:
    w = cbcore.class_weights(n, beta)
    assert (w * n).sum() ** 2 / (w**2 * n).sum() <= n.sum() * (1 + 1e-12)


def test_variance_of_a_weighted_mean() -> None:
    """Losses of 0 or 1, as likely: every outcome, counted."""
    w = np.array([0.2, 0.2, 1.0, 2.6])
    outcomes = np.array(list(itertools.product((0.0, 1.0), repeat=4)))
    assert (outcomes @ w / w.sum()).var() == pytest.approx(0.25 / (w.sum() ** 2 / (w**2).sum()))


@given(st.lists(st.floats(0, 1e3), min_size=3, max_size=3).map(np.array), class_counts, betas)
def test_weights_do_not_change_what_fits(losses: np.ndarray, n: np.ndarray, beta: float) -> None:
    w = cbcore.class_weights(np.resize(n, 3), beta)
    assert w.min() * losses.sum() * (1 - 1e-12) <= w @ losses <= w.max() * losses.sum() * (1 + 1e-12)


def test_no_classifier_beats_the_largest_posterior() -> None:
    """Among all classifiers of four inputs in three classes."""
    joint = normalised(np.random.default_rng(0).random((4, 3)))
    right = [joint[np.arange(4), list(answer)].sum() for answer in itertools.product(range(3), repeat=4)]
    assert max(right) == joint[np.arange(4), joint.argmax(1)].sum()
