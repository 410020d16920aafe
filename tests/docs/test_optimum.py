"""Which probabilities the weighted losses learn, and how to undo the weights: what-is-optimised.md."""

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import cbcore
from cbcore import _formulas as formulas
from cbcore import _ops as ops
from tests.docs.shared import GAMMAS, betas, class_counts, normalised


@given(st.integers(1, 10**7), betas)
def test_effective_prior_per_class_lies_between_two_lines(n: int, beta: float) -> None:
    big = 1 / (1 - beta)
    share = n / float(cbcore.effective_number([n], beta)[0])
    assert max(1, n / big) * (1 - 1e-9) <= share <= (1 + n / big) * (1 + 1e-9)


@given(class_counts, betas)
def test_a_larger_class_gets_no_smaller_share(n: np.ndarray, beta: float) -> None:
    share = np.sort(n) / cbcore.effective_number(np.sort(n), beta)
    assert (np.diff(share) >= -1e-14 * share[1:]).all()


def test_weighted_loss_is_the_loss_of_another_label_prior() -> None:
    n = np.array([90, 9, 1])
    labels = np.repeat(np.arange(3), n)
    logits = np.random.default_rng(0).normal(size=(100, 3))
    weights = cbcore.class_weights(n, 0.9)
    each = cbcore.softmax_cross_entropy(logits, labels, reduction="none")
    by_class = np.array([each[labels == y].mean() for y in range(3)])  # the expectation given the label
    prior = normalised(n / cbcore.effective_number(n, 0.9))
    mean_weight = (weights * n).sum() / n.sum()
    assert cbcore.softmax_cross_entropy(logits, labels, weights) == pytest.approx(mean_weight * (prior @ by_class))


posteriors = st.lists(st.floats(0.01, 1), min_size=4, max_size=4).map(normalised)
directions = st.lists(st.floats(-1, 1), min_size=4, max_size=4).map(np.array)


def risk(loss: Any, z: np.ndarray, posterior: np.ndarray, weights: np.ndarray, **options: Any) -> float:
    """Return the expected weighted loss at one input whose label has the given posterior."""
    each = loss(np.tile(z, (4, 1)), np.arange(4), weights, reduction="none", **options)
    return float(posterior @ each)


@given(posteriors, directions)
def test_softmax_learns_the_reweighted_posterior(posterior: np.ndarray, direction: np.ndarray) -> None:
    weights = cbcore.class_weights([1000, 100, 10, 1], 0.99)
    reweighted = normalised(posterior * weights)
    best = np.log(reweighted) + 3.0
    assert risk(cbcore.softmax_cross_entropy, best, posterior, weights) <= (
        risk(cbcore.softmax_cross_entropy, best + direction, posterior, weights) + 1e-12
    )
    np.testing.assert_allclose(normalised(np.exp(best - np.log(weights))), posterior, rtol=1e-12)


@given(posteriors, directions, st.sampled_from(GAMMAS))
def test_one_vs_all_losses_learn_a_transform_of_it(posterior: np.ndarray, direction: np.ndarray, gamma: float) -> None:
    weights = cbcore.class_weights([1000, 100, 10, 1], 0.99)
    reweighted = normalised(posterior * weights)
    best = np.array([stationary(eta, gamma) for eta in reweighted])
    focal = {"gamma": gamma}
    assert risk(cbcore.sigmoid_focal_loss, best, posterior, weights, **focal) <= (
        risk(cbcore.sigmoid_focal_loss, best + direction, posterior, weights, **focal) + 1e-12
    )
    rising, falling = (formulas.focal_term_derivative(ops, v, gamma) for v in (best, -best))
    eta = rising / (rising + falling)
    np.testing.assert_allclose(normalised(eta / weights), posterior, rtol=1e-6)
    if gamma == 0:
        np.testing.assert_allclose(eta, 1 / (1 + np.exp(-best)), rtol=1e-12)


def stationary(eta: float, gamma: float) -> float:
    """Return where (1 - eta) f'(z) = eta f'(-z), by bisection: the ratio of the two rises."""
    low, high = -40.0, 40.0
    for _ in range(100):
        z = np.array((low + high) / 2)
        slope = (1 - eta) * formulas.focal_term_derivative(ops, z, gamma)
        low, high = (
            (low, float(z)) if slope > eta * formulas.focal_term_derivative(ops, -z, gamma) else (float(z), high)
        )
    return low


@pytest.mark.parametrize("gamma", GAMMAS)
def test_the_transform_rises(gamma: float) -> None:
    z = np.linspace(-20, 20, 401)
    ratio = formulas.focal_term_derivative(ops, z, gamma) / formulas.focal_term_derivative(ops, -z, gamma)
    assert (np.diff(ratio) > 0).all()


def test_subtracting_log_w_from_sigmoid_logits_is_wrong() -> None:
    weights = np.array([0.1, 1.0, 1.9])
    posterior = np.array([0.6, 0.3, 0.1])
    reweighted = normalised(posterior * weights)
    z = np.log(reweighted) - np.log1p(-reweighted)
    subtracted = 1 / (1 + np.exp(-(z - np.log(weights))))
    assert np.abs(subtracted - posterior).max() > 0.1
    np.testing.assert_allclose(normalised(1 / (1 + np.exp(-z)) / weights), posterior)


def test_multi_label_optimum() -> None:
    """At one input: each set of labels has a probability, and a weight of its own."""
    sets = np.array(list(itertools.product((0.0, 1.0), repeat=3)))
    chance = normalised(np.arange(1.0, 9.0))
    alpha = np.array([0.2, 1.0, 1.8])
    labels = np.maximum(sets.sum(1), 1)
    w = np.where(sets.any(1), sets @ alpha / labels, 1.0)
    eta = (chance * w) @ sets / (chance @ w)
    best = np.log(eta) - np.log1p(-eta)

    def expected(z: np.ndarray) -> float:
        return float(chance @ cbcore.sigmoid_cross_entropy(np.tile(z, (8, 1)), sets, alpha, reduction="none"))

    for move in np.concatenate([np.eye(3), -np.eye(3)]) / 10:
        assert expected(best) < expected(best + move)
