"""Effective numbers and class weights: exact cases, the 50-digit reference, and properties."""

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import cbcore
from tests.support import reference
from tests.support.numpy_adapter import read_only

DATA = Path(__file__).parents[1] / "data"
BETAS = [0.0, 1e-300, 1e-17, 0.1, 0.5, 0.9, 0.999, 0.999999, 1 - 1e-8, 1 - 1e-12, math.nextafter(1, 0), 1.0]
COUNTS = read_only(np.array([0, 1, 2, 3, 10, 999, 5000, 10**6, 10**9, 10**12]))

counts = hnp.arrays(np.int64, st.integers(1, 30), elements=st.integers(1, 10**9))
betas = st.one_of(st.floats(0, 1), st.sampled_from(BETAS), st.floats(0, 1).map(lambda x: 1 - x / 1e6))


@pytest.mark.parametrize("beta", BETAS)
def test_effective_number_agrees_with_50_digits(beta: float) -> None:
    expected = [float(reference.effective_number(int(n), beta=beta)) for n in COUNTS]
    np.testing.assert_allclose(cbcore.effective_number(COUNTS, beta), expected, rtol=1e-15, atol=0)


@pytest.mark.parametrize("prototypes", [1, 1.5, 2, 10, 1e3, 1e9, 1e18, 1e300])
def test_num_prototypes_agrees_with_50_digits(prototypes: float) -> None:
    expected = [float(reference.effective_number(int(n), num_prototypes=prototypes)) for n in COUNTS]
    result = cbcore.effective_number(COUNTS, num_prototypes=prototypes)
    np.testing.assert_allclose(result, expected, rtol=1e-15, atol=0)


def test_ends_of_beta_are_exact() -> None:
    assert cbcore.effective_number(COUNTS, 0.0).tolist() == [0.0] + [1.0] * 9
    assert cbcore.effective_number(COUNTS, num_prototypes=1).tolist() == [0.0] + [1.0] * 9
    assert cbcore.effective_number(COUNTS, 1.0).tolist() == COUNTS.tolist()  # type: ignore[union-attr]
    assert cbcore.effective_number(COUNTS, num_prototypes=math.inf).tolist() == COUNTS.tolist()  # type: ignore[union-attr]


@given(counts, betas)
def test_bounds_and_monotone_in_n(n: np.ndarray, beta: float) -> None:
    numbers = cbcore.effective_number(np.sort(n), beta)
    assert (numbers >= 1).all()
    assert (numbers <= np.sort(n)).all()
    if beta < 1:
        assert (numbers <= 1 / (1 - beta) * (1 + 4e-16)).all()
    assert (np.diff(numbers) >= -2e-16 * numbers[1:]).all()


@given(counts, st.tuples(betas, betas))
def test_monotone_in_beta(n: np.ndarray, pair: tuple[float, float]) -> None:
    low, high = (cbcore.effective_number(n, beta) for beta in sorted(pair))
    assert (low <= high * (1 + 1e-15)).all()


@given(counts, betas)
def test_recurrence(n: np.ndarray, beta: float) -> None:
    """E_{n+1} = 1 + beta E_n, the step of the paper's induction."""
    expected = 1 + beta * cbcore.effective_number(n, beta)
    np.testing.assert_allclose(cbcore.effective_number(n + 1, beta), expected, rtol=1e-15)


@given(counts, betas)
def test_one_sample_is_one(n: np.ndarray, beta: float) -> None:
    assert cbcore.effective_number(np.ones_like(n), beta).tolist() == [1.0] * n.size


@given(counts, betas)
def test_weights_sum_to_classes(n: np.ndarray, beta: float) -> None:
    np.testing.assert_allclose(cbcore.class_weights(n, beta).sum(), n.size, rtol=1e-14)


@given(counts, betas)
def test_samples_scale_keeps_the_mean_weight(n: np.ndarray, beta: float) -> None:
    weights = cbcore.class_weights(n, beta, normalize="samples")
    np.testing.assert_allclose((weights * n).sum(), n.sum(), rtol=1e-14)


@given(counts, betas)
def test_raw_weights_are_inverse_effective_numbers(n: np.ndarray, beta: float) -> None:
    weights = cbcore.class_weights(n, beta, normalize=None)
    np.testing.assert_array_equal(weights, 1 / cbcore.effective_number(n, beta))


@given(counts)
def test_ends_of_beta_are_uniform_and_inverse_frequency(n: np.ndarray) -> None:
    np.testing.assert_array_equal(cbcore.class_weights(n, 0.0), np.ones(n.size))
    np.testing.assert_allclose(cbcore.class_weights(n, 1.0), n.size / n / (1 / n).sum(), rtol=1e-14)
    balanced = cbcore.class_weights(n, 1.0, normalize="samples")  # scikit-learn's "balanced"
    np.testing.assert_allclose(balanced, n.sum() / (n.size * n), rtol=1e-14)


@given(counts, betas, st.randoms(use_true_random=False))
def test_permuting_classes_permutes_weights(n: np.ndarray, beta: float, random: object) -> None:
    order = np.random.default_rng(random.getrandbits(32)).permutation(n.size)  # type: ignore[attr-defined]
    np.testing.assert_allclose(cbcore.class_weights(n[order], beta), cbcore.class_weights(n, beta)[order], rtol=1e-14)


@given(counts, betas)
def test_beta_for_each_class(n: np.ndarray, beta: float) -> None:
    per_class = np.full(n.size, beta)
    np.testing.assert_array_equal(cbcore.effective_number(n, per_class), cbcore.effective_number(n, beta))
    mixed = np.where(np.arange(n.size) % 2, 1.0, beta)
    expected = np.where(np.arange(n.size) % 2, n, cbcore.effective_number(n, beta))
    np.testing.assert_array_equal(cbcore.effective_number(n, mixed), expected)


@pytest.mark.parametrize("normalize", ["classes", "samples", None])
def test_empty_classes(normalize: str | None) -> None:
    n, present = np.array([50, 0, 5, 0, 1]), [0, 2, 4]
    zero = cbcore.class_weights(n, 0.9, normalize=normalize, empty="zero")  # type: ignore[arg-type]
    assert zero[[1, 3]].tolist() == [0, 0]
    np.testing.assert_array_equal(zero[present], cbcore.class_weights(n[present], 0.9, normalize=normalize))  # type: ignore[arg-type]
    one = cbcore.class_weights(n, 0.9, normalize=normalize, empty="one")  # type: ignore[arg-type]
    np.testing.assert_array_equal(one, cbcore.class_weights(np.maximum(n, 1), 0.9, normalize=normalize))  # type: ignore[arg-type]


def test_blocks_do_not_show() -> None:
    """Counts of more classes than a block give what each class gives alone."""
    n = np.random.default_rng(0).integers(1, 10**6, 100_003)
    whole = cbcore.effective_number(n, 0.9999)
    np.testing.assert_array_equal(whole[::997], [cbcore.effective_number([x], 0.9999)[0] for x in n[::997]])
    np.testing.assert_allclose(cbcore.class_weights(n, 0.9999), (1 / whole) * (n.size / (1 / whole).sum()), rtol=1e-13)


def test_default_is_the_papers_large_scale_setting() -> None:
    np.testing.assert_array_equal(cbcore.class_weights([9, 1]), cbcore.class_weights([9, 1], 0.999))
    np.testing.assert_allclose(cbcore.class_weights([9, 1]), cbcore.class_weights([9, 1], num_prototypes=1000))


@pytest.mark.parametrize(
    ("name", "classes", "images", "factor"),
    [
        ("inaturalist2017", 5089, 579_184, 435.44),
        ("inaturalist2018", 8142, 437_513, 500.00),
        ("ilsvrc2012", 1000, 1_281_167, 1.78),
    ],
)
def test_table_1_of_the_paper(name: str, classes: int, images: int, factor: float) -> None:
    n = np.array((DATA / f"{name}.txt").read_text().split(), dtype=np.int64)
    assert (n.size, n.sum(), round(cbcore.imbalance_factor(n), 2)) == (classes, images, factor)


@pytest.mark.parametrize(
    ("imbalance", "expected"),
    [(50, [5000, 3237, 2096, 1357, 878, 568, 368, 238, 154, 100]), (1, [5000] * 10)],
)
def test_long_tailed_cifar_counts(imbalance: int, expected: list[int]) -> None:
    assert cbcore.long_tailed_counts(5000, 10, imbalance).tolist() == expected


def test_long_tailed_cifar_totals() -> None:
    assert cbcore.long_tailed_counts(5000, 10, 100).sum() == 12_406
    assert cbcore.imbalance_factor(cbcore.long_tailed_counts(500, 100, 200)) == 250  # truncated to 2 images
    assert cbcore.long_tailed_counts(7, 1, 100).tolist() == [7]


def test_mean_sample_weight_on_long_tailed_cifar() -> None:
    """Normalised over classes, the average sample weighs 0.17: the effective learning rate is that much smaller."""
    n = cbcore.long_tailed_counts(5000, 10, 100)
    assert round(float((cbcore.class_weights(n, 0.9999) * n).sum() / n.sum()), 2) == 0.17


def test_imbalance_factor_of_an_empty_class_is_infinite() -> None:
    assert cbcore.imbalance_factor([3, 0]) == math.inf


def test_prior_bias() -> None:
    assert cbcore.prior_bias(2) == 0.0
    for classes in (10, 1000):
        assert math.isclose(1 / (1 + math.exp(-cbcore.prior_bias(classes))), 1 / classes, rel_tol=1e-14)
