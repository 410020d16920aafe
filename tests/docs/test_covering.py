"""Random covering: the effective number in exact arithmetic, its ends, and unequal prototypes."""

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import cbcore
from tests.docs.shared import betas, class_counts

masses = st.lists(st.integers(0, 50), min_size=1, max_size=12).filter(any)


def distinct(p: list[Fraction], n: int) -> Fraction:
    """Return the expected number of distinct prototypes in n draws."""
    return sum((1 - (1 - x) ** n for x in p), Fraction(0))


def effective(n: int, prototypes: Fraction) -> Fraction:
    return prototypes * (1 - (1 - 1 / prototypes) ** n)


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
