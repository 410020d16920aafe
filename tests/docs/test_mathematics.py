"""The statements of docs/explanation, each against exact arithmetic, 50 digits or the library itself."""

import itertools
import math
from fractions import Fraction
from typing import Any

import mpmath
import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from mpmath import mpf

import cbcore
from cbcore import _formulas as formulas
from cbcore import _ops as ops

CIFAR_10 = cbcore.long_tailed_counts(5000, 10, 100)
GAMMAS = [0.0, 0.3, 0.5, 1.0, 2.0, 5.0]

masses = st.lists(st.integers(0, 50), min_size=1, max_size=12).filter(any)
class_counts = st.lists(st.integers(1, 10**6), min_size=2, max_size=12).map(np.array)
betas = st.floats(0, 1).map(lambda x: 1 - 10 ** (-7 * x))


def distinct(p: list[Fraction], n: int) -> Fraction:
    """Return the expected number of distinct prototypes in n draws."""
    return sum((1 - (1 - x) ** n for x in p), Fraction(0))


def effective(n: int, prototypes: Fraction) -> Fraction:
    return prototypes * (1 - (1 - 1 / prototypes) ** n)


def normalised(x: Any) -> np.ndarray:
    return np.asarray(x) / np.sum(x)


# ------------------------------------------------------------------------------------- effective-number.md


@pytest.mark.parametrize("prototypes", [1, 2, 3, 4])
@pytest.mark.parametrize("n", [0, 1, 2, 3, 5])
def test_occupancy_mean_variance_and_gain(prototypes: int, n: int) -> None:
    """Every outcome of n draws, counted."""
    draws = [len(set(draw)) for draw in itertools.product(range(prototypes), repeat=n)]
    mean = Fraction(sum(draws), len(draws))
    variance = Fraction(sum(d * d for d in draws), len(draws)) - mean**2
    big = Fraction(prototypes)
    beta = 1 - 1 / big
    assert mean == effective(n, big)
    assert variance == big * beta**n + big * (big - 1) * (1 - 2 / big) ** n - big**2 * beta ** (2 * n)
    assert variance <= mean * beta**n
    new = [draw[-1] not in draw[:-1] for draw in itertools.product(range(prototypes), repeat=n + 1)]
    assert Fraction(sum(new), len(new)) == beta**n == 1 - mean / big
    assert cbcore.effective_number([n], num_prototypes=prototypes)[0] == pytest.approx(float(mean), rel=1e-15)


# ------------------------------------------------------------------------------------- two-ends.md


@given(st.integers(1, 10**6), st.integers(1, 10**9))
def test_error_terms_at_both_ends(n: int, big: int) -> None:
    small = Fraction(1, big)
    if n <= 1000:
        exact = effective(n, Fraction(big))
        second = n - Fraction(n * (n - 1), 2) * small
        assert second <= exact <= second + Fraction(n * (n - 1) * (n - 2), 6) * small**2
        beta = small / 2  # below one half
        number = sum(beta**j for j in range(n))
        assert n == 1 or 1 + beta <= number <= 1 + beta + beta**2 / (1 - beta)
    if big > 1:
        smooth = -big * math.expm1(-n / big)
        number = float(cbcore.effective_number([n], num_prototypes=big)[0])
        assert smooth * (1 - 1e-14) <= number <= smooth * big / (big - 1) * (1 + 1e-14)


@given(class_counts, st.tuples(betas, betas))
def test_weight_ratio_rises_with_beta_to_the_imbalance_factor(n: np.ndarray, pair: tuple[float, float]) -> None:
    low, high = (cbcore.class_weights(n, beta) for beta in sorted(pair))
    ratios = [weights.max() / weights.min() for weights in (low, high)]
    assert 1 <= ratios[0] <= ratios[1] * (1 + 1e-14)
    assert ratios[1] <= cbcore.imbalance_factor(n) * (1 + 1e-14)


# ------------------------------------------------------------------------------------- unequal-prototypes.md


@given(masses, st.integers(0, 40))
def test_unequal_prototypes_lie_between_two_effective_numbers(mass: list[int], n: int) -> None:
    p = [Fraction(m, sum(mass)) for m in mass]
    agreement = sum(x * x for x in p)
    lower, exact, upper = effective(n, 1 / agreement), distinct(p, n), effective(n, Fraction(len(p)))
    assert lower <= exact <= upper
    assert (lower == exact) == (n <= 2 or len({x for x in p if x}) == 1)
    assert (exact == upper) == (n <= 1 or len(set(p)) == 1)
    if n == 3:
        assert exact - lower == sum(x * (x - agreement) ** 2 for x in p)
    bounds = [cbcore.effective_number([n], num_prototypes=float(big))[0] for big in (1 / agreement, len(p))]
    assert bounds[0] * (1 - 1e-12) <= float(exact) <= bounds[1] * (1 + 1e-12)


@pytest.mark.parametrize("n", [0, 1, 2, 4])
def test_unequal_prototypes_by_counting(n: int) -> None:
    p = [Fraction(1, 2), Fraction(1, 3), Fraction(1, 6)]
    draws = itertools.product(range(3), repeat=n)
    assert sum(len(set(draw)) * math.prod((p[i] for i in draw), start=Fraction(1)) for draw in draws) == distinct(p, n)


# ------------------------------------------------------------------------------------- normalisation.md


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


# ------------------------------------------------------------------------------------- losses.md


def term(v: Any, gamma: float) -> Any:
    return (1 / (1 + mpmath.exp(-v))) ** gamma * mpmath.log1p(mpmath.exp(v))


def curvature(v: Any, gamma: float) -> Any:
    s, softplus = 1 / (1 + mpmath.exp(-v)), mpmath.log1p(mpmath.exp(v))
    return s**gamma * (1 - s) * ((1 + 2 * gamma) * s + gamma * (gamma - (1 + gamma) * s) * softplus)


@pytest.mark.parametrize("gamma", GAMMAS)
@pytest.mark.parametrize("v", [-30.0, -3.0, 0.0, 0.7, 4.0, 30.0])
def test_derivatives_of_the_focal_term(gamma: float, v: float) -> None:
    first, second = (mpmath.diff(lambda x: term(x, gamma), mpf(v), order) for order in (1, 2))
    slope = formulas.focal_term_derivative(ops, np.array(v), gamma)
    assert float(slope) == pytest.approx(float(first), rel=1e-13)
    assert float(curvature(mpf(v), gamma)) == pytest.approx(float(second), rel=1e-13)


def inflection(gamma: float) -> Any:
    """Return where softplus(v) (1 - gamma exp(-v)) = 2 + 1 / gamma."""
    return mpmath.findroot(
        lambda v: mpmath.log1p(mpmath.exp(v)) * (1 - gamma * mpmath.exp(-v)) - 2 - 1 / mpf(gamma), 3 + 1 / gamma
    )


@pytest.mark.parametrize("gamma", GAMMAS)
def test_the_focal_term_has_one_inflection_and_sigmoid_cross_entropy_none(gamma: float) -> None:
    grid = [mpf(x) / 8 for x in range(-240, 241)]
    if gamma == 0:
        assert all(curvature(v, gamma) > 0 for v in grid)
        return
    at = inflection(gamma)
    assert all((curvature(v, gamma) > 0) == (v < at) for v in grid)
    slopes = formulas.focal_term_derivative(ops, float(at) + np.array([0.0, 1.0, 3.0, 9.0, 20.0]), gamma)
    assert (np.diff(slopes) < 0).all()
    assert (slopes > 1).all()


@given(st.lists(st.floats(-20, 20), min_size=3, max_size=3), st.lists(st.floats(0, 1), min_size=3, max_size=3))
def test_softmax_gradient_and_hessian(logits: list[float], targets: list[float]) -> None:
    """Through the reference of 50 digits, differentiated once more by differences of its gradient."""
    from tests.support import reference

    t = np.array([targets])

    def gradient(z: np.ndarray) -> np.ndarray:
        call: dict[str, Any] = {"gamma": 0.0, "axis": -1, "valid": None, "sample_weight": None, "label_smoothing": 0.0}
        result = reference.loss("softmax", z[None], t, None, reduction="sum", **call)
        return result.gradient[0]  # type: ignore[no-any-return]

    z, mass, step = np.array(logits), t.sum(), 1e-5
    p = normalised(np.exp(z - z.max()))
    np.testing.assert_allclose(gradient(z), mass * p - t[0], atol=1e-13)
    hessian = np.array([(gradient(z + d) - gradient(z - d)) / (2 * step) for d in step * np.eye(3)])
    np.testing.assert_allclose(hessian, mass * (np.diag(p) - np.outer(p, p)), atol=1e-9)
    for u in np.eye(3):
        assert u @ (np.diag(p) - np.outer(p, p)) @ u == pytest.approx(p @ u**2 - (p @ u) ** 2)


@pytest.mark.parametrize("classes", [2, 10, 1000])
@pytest.mark.parametrize("gamma", GAMMAS)
def test_first_loss_with_the_prior_bias(classes: int, gamma: float) -> None:
    logits = np.full((1, classes), cbcore.prior_bias(classes))
    loss = cbcore.sigmoid_focal_loss(logits, np.array([0]), gamma=gamma)
    prior = 1 / classes
    others = (classes - 1) * prior**gamma * -math.log1p(-prior)
    assert loss == pytest.approx((1 - prior) ** gamma * math.log(classes) + others, rel=1e-12)
    if gamma == 0:
        assert loss < math.log(classes) + 1
        slope = formulas.focal_term_derivative(ops, np.array([1.0, -1.0]) * cbcore.prior_bias(classes), gamma)
        assert (classes - 1) * slope[0] == pytest.approx(slope[1], rel=1e-12)


# ------------------------------------------------------------------------------------- reductions.md


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


# ------------------------------------------------------------------------------------- what-is-optimised.md


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


# ------------------------------------------------------------------------------------- limits.md


@given(class_counts, betas)
def test_kish_size_is_at_most_the_number_of_samples(n: np.ndarray, beta: float) -> None:
    assume(n.size > 1)
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
