"""beta from the ratio of the weights, weights that are nearly alike, and the prior chosen on validation logits."""
# ruff: noqa: E501 -- a row a case

import math
import warnings
from typing import Any

import mpmath as mp
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from matplotlib import pyplot
from matplotlib.figure import Figure

import cbcore
from cbcore._from_counts import FromCounts
from tests.core.test_weights import betas, counts
from tests.support import reference

COUNTS = cbcore.long_tailed_counts(5000, 10, 100)


def ratio_of(n: Any, beta: float, **options: Any) -> float:
    weights = cbcore.class_weights(n, beta, **options)
    return float(weights.max() / weights[weights > 0].min())


# ---------------------------------------------------------------- beta from the ratio


@given(counts, betas, betas)
def test_the_ratio_rises_with_beta(n: np.ndarray, one: float, other: float) -> None:
    low, high = sorted((one, other))
    assert ratio_of(n, low) <= ratio_of(n, high) * (1 + 1e-14)


@given(counts, st.floats(0, 1))
def test_beta_from_ratio_gives_that_ratio(n: np.ndarray, where: float) -> None:
    full = cbcore.imbalance_factor(n)
    ratio = min(full**where, full)
    beta = cbcore.beta_from_ratio(n, ratio)
    assert 0 <= beta <= 1
    # beta is a float64: next to 1 it has N = 1 / (1 - beta) to N / 2^53, and the ratio no better.
    coarse = 2**-53 / (1 - beta) if beta < 1 else 0
    assert ratio_of(n, beta) == pytest.approx(ratio, rel=1e-13 + 4 * coarse)


@pytest.mark.parametrize(("few", "many", "ratio"), [(50, 5000, 10.0), (1, 10, 1.0001), (3, 10**6, 1e3), (2, 3, 1.4999)])
def test_beta_from_ratio_agrees_with_50_digits(few: int, many: int, ratio: float) -> None:
    beta = cbcore.beta_from_ratio([many, few, few + 1], ratio)

    def miss(b: float) -> Any:
        return reference.effective_number(many, beta=b) / reference.effective_number(few, beta=b) - mp.mpf(ratio)

    width = 1e-11 * max(1 - beta, 1e-3)
    assert miss(beta - width) < 0 < miss(beta + width)


def test_the_ends_of_the_ratio_are_exact() -> None:
    assert cbcore.beta_from_ratio(COUNTS, 1) == 0
    assert cbcore.beta_from_ratio(COUNTS, 100) == 1
    assert cbcore.beta_from_ratio([7, 7], 1) == 0
    assert cbcore.beta_from_ratio([5000, 0, 50], 10, empty="zero") == cbcore.beta_from_ratio([5000, 50], 10)
    assert cbcore.beta_from_ratio([5000, 0, 50], 10, empty="one") == cbcore.beta_from_ratio([5000, 1], 10)
    assert cbcore.beta_from_ratio(torch.tensor([5000, 50]), 10) == cbcore.beta_from_ratio([5000, 50], 10)


@pytest.mark.parametrize("num", [2, 3, 5, 9])
def test_the_ratios_of_a_grid_are_spread_evenly(num: int) -> None:
    grid = cbcore.beta_grid(COUNTS, num)
    assert (grid[0], grid[-1], grid.size) == (0, 1, num)
    np.testing.assert_allclose(np.diff(np.log([ratio_of(COUNTS, b) for b in grid])), math.log(100) / (num - 1), 1e-10)
    assert isinstance(cbcore.beta_grid(torch.tensor([9, 3])), np.ndarray)


# ---------------------------------------------------------------- max_ratio


@given(counts, betas, st.floats(1, 1e3), st.sampled_from(["classes", "samples", None]))
def test_max_ratio_clips_the_largest_and_leaves_the_proportions_of_the_rest(
    n: np.ndarray, beta: float, most: float, normalize: Any
) -> None:
    plain = cbcore.class_weights(n, beta, normalize=None)
    clipped = cbcore.class_weights(n, beta, max_ratio=most, normalize=normalize)
    expected = np.minimum(plain, most * plain.min())
    scale = {None: 1, "classes": n.size / expected.sum(), "samples": n.sum() / (expected @ n)}[normalize]
    np.testing.assert_allclose(clipped, expected * scale, rtol=1e-13)
    assert clipped.max() <= clipped.min() * most * (1 + 1e-14)


def test_max_ratio_leaves_out_empty_classes_and_what_is_below_it() -> None:
    assert cbcore.class_weights([8, 0, 2], 1, max_ratio=2, empty="zero").tolist() == pytest.approx([2 / 3, 0, 4 / 3])
    np.testing.assert_array_equal(cbcore.class_weights(COUNTS, 1, max_ratio=101), cbcore.class_weights(COUNTS, 1))
    assert cbcore.class_weights(COUNTS, 1, max_ratio=1).tolist() == [1] * 10


# ---------------------------------------------------------------- weights that are nearly alike


class Weights(FromCounts):
    def __init__(self, class_weights: np.ndarray) -> None:
        self.class_weights = class_weights


ALIKE = r"class weights are nearly all alike with (.*): the largest is (.*) times the smallest, .* allow (.*); beta=(.*) gives half"


@pytest.mark.parametrize(
    ("n", "options", "given"),
    [
        (COUNTS, {"beta": 0.9}, "beta=0.9"),
        ([60_000, 30_000, 10_000], {}, "the default beta=0.999"),
        (COUNTS, {"num_prototypes": 5}, "num_prototypes=5"),
        ([10**7, 10**5, 0], {"beta": 0.999, "empty": "zero"}, "beta=0.999"),
        (COUNTS, {"beta": [0.9] * 10}, "beta=[0.9"),
    ],
)
def test_weights_that_are_nearly_alike_are_warned_of(n: Any, options: Any, given: str) -> None:
    with pytest.warns(UserWarning, match=ALIKE) as caught:
        made = Weights.from_counts(n, **options)
    assert given in str(caught[0].message)
    assert caught[0].filename == __file__
    full = np.max(n) / np.min(np.array(n)[np.array(n) > 0])
    half = float(str(caught[0].message).split("; beta=")[1].split(" ")[0])
    assert ratio_of(n, half, empty=options.get("empty", "error")) == pytest.approx(math.sqrt(full), rel=0.01)
    np.testing.assert_array_equal(made.class_weights, cbcore.class_weights(n, **options))


@pytest.mark.parametrize(
    ("n", "options"),
    [
        (COUNTS, {"beta": 0.999}),
        (COUNTS, {"beta": 0}),
        (COUNTS, {"beta": [0.0] * 10}),
        (COUNTS, {"num_prototypes": 1}),
        (COUNTS, {"power": 0}),
        (COUNTS, {"beta": 1, "power": 0.01}),
        (COUNTS, {"beta": 0.999, "max_ratio": 1.01}),
        ([100, 100], {}),
        ([10_000, 9_990], {"beta": 0.999}),
    ],
)
def test_no_warning_where_weights_differ_or_that_was_asked_for_or_nothing_else_is_possible(
    n: Any, options: Any
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Weights.from_counts(n, **options)


# ---------------------------------------------------------------- choose_prior


def problem(beta: float, tau: float, size: int = 3000, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return logits that are exactly log p(y | x) for the class shares E_n(beta)^tau, and balanced labels.

    One Gaussian a class: with equal shares its posterior is the softmax of -|x - m|^2 / 2.
    """
    r = np.random.default_rng(seed)
    means = 2 * np.eye(10)
    labels = np.arange(10).repeat(size)
    x = r.normal(means[labels])
    balanced = x @ means.T
    return balanced + cbcore.logit_adjustment(COUNTS, beta, tau=tau) + r.normal(size=(labels.size, 1)), labels


@pytest.mark.parametrize(("beta", "tau"), [(1.0, 1.0), (0.999, 1.0), (0.9999, 0.5), (0.99, 1.0), (0.0, 0.0)])
def test_it_finds_the_known_optimum(beta: float, tau: float) -> None:
    z, y = problem(beta, tau)
    choice = cbcore.choose_prior(
        z, y, COUNTS, betas=[0.0, 0.99, 0.999, 0.9999, 1.0], taus=[0.0, 0.5, 1.0, 1.5], draws=200
    )
    # Pairs whose shifts are nearly the same are no different choice; the rest is worse, and known to be.
    wanted = cbcore.logit_adjustment(COUNTS, beta, tau=tau)
    found = cbcore.logit_adjustment(COUNTS, choice.beta, tau=choice.tau)
    assert np.abs(wanted - found).max() < 0.5
    assert choice.error <= choice.table["error"][0]
    assert choice.beta_interval[0] <= beta <= choice.beta_interval[1]
    assert choice.tau_interval[0] <= tau <= choice.tau_interval[1]
    truth = float(((z - wanted).argmax(1) != y).mean())
    assert choice.error_interval[0] <= truth <= choice.error_interval[1]


def test_the_strength_alone_is_found_exactly() -> None:
    z, y = problem(1.0, 1.0)
    choice = cbcore.choose_prior(z, y, COUNTS, betas=[1.0], taus=[0.0, 0.5, 1.0, 1.5, 2.0])
    assert (choice.beta, choice.tau) == (1.0, 1.0)
    assert choice.table["tau"].tolist() == [0, 0.5, 1, 1.5, 2]
    assert choice.table["range"].tolist() == pytest.approx([0, *np.log(100) * np.array([0.5, 1, 1.5, 2])])
    assert choice.table["chosen"].sum() == pytest.approx(1)
    assert choice.table["chosen"].argmax() == 2


def test_the_table_is_the_balanced_error_of_the_shifted_logits() -> None:
    r = np.random.default_rng(5)
    z, y = r.normal(size=(500, 10)), r.permutation(np.r_[np.arange(10), r.integers(0, 10, 490) ** 2 // 9])
    choice = cbcore.choose_prior(z, y, COUNTS, draws=1)
    assert len(choice.table) == 1 + 4 * 6
    for row in choice.table:
        wrong = (z - cbcore.logit_adjustment(COUNTS, row["beta"], tau=row["tau"])).argmax(1) != y
        assert row["error"] == pytest.approx(np.mean([wrong[y == c].mean() for c in range(10)]), abs=1e-12)
    assert (np.diff(choice.table["range"]) >= 0).all()
    assert choice.error == choice.table["error"].min()


def test_the_order_of_samples_and_the_shares_of_classes_do_not_matter() -> None:
    z, y = problem(1.0, 1.0, size=40)
    order = np.random.default_rng(0).permutation(y.size)
    one, other = cbcore.choose_prior(z, y, COUNTS, draws=20), cbcore.choose_prior(z[order], y[order], COUNTS, draws=20)
    np.testing.assert_allclose(other.table["error"], one.table["error"], atol=1e-14)
    many = np.r_[np.arange(y.size), np.flatnonzero(y == 3), np.flatnonzero(y == 3)]
    np.testing.assert_allclose(
        cbcore.choose_prior(z[many], y[many], COUNTS, draws=1).table["error"], one.table["error"], atol=1e-14
    )


def test_of_equal_errors_the_weaker_shift_is_chosen() -> None:
    z, y = 100 * np.eye(10), np.arange(10)
    choice = cbcore.choose_prior(z, y, COUNTS)
    assert choice[:3] == (0, 0, 0)
    assert choice[3:6] == ((0, 0), (0, 0), (0, 0))
    assert choice.table["chosen"].tolist() == [1] + [0] * 24


def test_a_seed_repeats_and_draws_narrow_with_samples() -> None:
    z, y = problem(1.0, 1.0, size=30)
    one, same, other = (cbcore.choose_prior(z, y, COUNTS, seed=seed, draws=50) for seed in (3, 3, 4))
    assert one.table.tobytes() == same.table.tobytes()
    assert one.table.tobytes() != other.table.tobytes()
    low, high = one.error_interval
    wide = cbcore.choose_prior(z, y, COUNTS, confidence=1, draws=50, seed=3).error_interval
    assert wide[0] <= low < high <= wide[1]
    # The standard error of a stratified mean, from the variances of the classes.
    z, y = problem(1.0, 1.0, size=200)
    choice = cbcore.choose_prior(z, y, COUNTS, betas=[1.0], taus=[1.0], draws=2000, confidence=0.9)
    wrong = (z - cbcore.logit_adjustment(COUNTS)).argmax(1) != y
    spread = math.sqrt(sum(wrong[y == c].var() / 200 for c in range(10))) / 10
    assert choice.error_interval[1] - choice.error_interval[0] == pytest.approx(2 * 1.645 * spread, rel=0.1)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_logits_of_any_kind_and_more_than_a_block(dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    z, y = problem(1.0, 1.0, size=20)
    tensor = torch.tensor(z).to(dtype)
    options: Any = {"draws": 30}
    whole = cbcore.choose_prior(tensor, torch.tensor(y), torch.tensor(COUNTS), **options)
    monkeypatch.setattr("cbcore._choose._BLOCK", 70)
    monkeypatch.setattr("cbcore._choose._DRAWN", 450)
    parts = cbcore.choose_prior(tensor, y, COUNTS, **options)
    assert whole.table.tobytes() == parts.table.tobytes()
    assert whole[:6] == parts[:6]
    in_float = cbcore.choose_prior(tensor.double().numpy(), y, COUNTS, **options)
    np.testing.assert_allclose(whole.table["error"], in_float.table["error"], atol=0.011)


def test_the_plot_shows_the_table_and_the_choice() -> None:
    z, y = problem(1.0, 1.0, size=30)
    choice = cbcore.choose_prior(z, y, COUNTS, betas=[0.99, 1.0], taus=[0.5, 1.0, 1.5], draws=50)
    axes = Figure().subplots()
    assert choice.plot(axes) is axes
    plain, weak, full, best = axes.get_lines()
    assert np.unique(plain.get_ydata()).tolist() == [choice.table["error"][0]]
    for line, beta in ((weak, 0.99), (full, 1.0)):
        assert line.get_label() == f"beta = {beta:g}"
        rows = {(row["tau"], row["error"]) for row in choice.table if row["beta"] == beta}
        assert set(zip(line.get_xdata(), line.get_ydata(), strict=True)) == rows
    assert (best.get_xdata().item(), best.get_ydata().item()) == (choice.tau, choice.error)
    current = choice.plot()
    assert current is pyplot.gca()
    pyplot.close(current.figure)


def test_classes_without_training_samples() -> None:
    z, y = problem(1.0, 1.0, size=50)
    n = COUNTS.copy()
    n[4] = 0
    kept = np.flatnonzero(y != 4)
    zero = cbcore.choose_prior(z, y, n, empty="zero", draws=20)
    without = cbcore.choose_prior(np.delete(z[kept], 4, 1), y[kept] - (y[kept] > 4), np.delete(n, 4), draws=20)
    np.testing.assert_allclose(zero.table["error"], without.table["error"], atol=1e-14)
    assert cbcore.choose_prior(z[kept], y[kept], n, empty="zero", draws=20).table.tobytes() == zero.table.tobytes()
    one = cbcore.choose_prior(z, y, n, empty="one", draws=20)
    assert one.table["range"].max() > zero.table["range"].max()


Z, Y, N = np.zeros((4, 2)), np.array([0, 1, 1, 0]), [9, 3]


@pytest.mark.parametrize(
    ("call", "kind", "text"),
    [
        (lambda: cbcore.beta_from_ratio([5000, 50], 101), ValueError, "ratio must be at most the largest over the smallest class count, 100, which beta = 1 gives, got 101"),
        (lambda: cbcore.beta_from_ratio([5000, 50], 0.5), ValueError, "ratio must be at least 1, got 0.5"),
        (lambda: cbcore.beta_from_ratio([5000, 50], math.nan), ValueError, "ratio must be at least 1, got nan"),
        (lambda: cbcore.beta_from_ratio([5000, 50], "10"), TypeError, "ratio must be a number, got '10'"),
        (lambda: cbcore.beta_from_ratio([5000, 0], 10), ValueError, "class_counts must be at least 1 for every class"),
        (lambda: cbcore.beta_grid([5000, 50], 1), ValueError, "num must be at least 2, got 1"),
        (lambda: cbcore.beta_grid([50, 50]), ValueError, "class_counts must differ between classes for a choice of beta, got 50 samples of each"),
        (lambda: cbcore.class_weights([5, 1], max_ratio=0.5), ValueError, "max_ratio must be at least 1, got 0.5"),
        (lambda: cbcore.class_weights([5, 1], max_ratio=math.inf), ValueError, "max_ratio must be finite, got inf"),
        (lambda: cbcore.choose_prior(Z, Y, [3, 3]), ValueError, "class_counts must differ between classes"),
        (lambda: cbcore.choose_prior(Z.astype(int), Y, N), TypeError, "logits must be floating point (raw scores of the model), got int64"),
        (lambda: cbcore.choose_prior(Z, Y[:3], N), ValueError, "logits must have shape (num_samples, C), got (4, 2) for 3 labels and 2 class counts; pass one row for each label"),
        (lambda: cbcore.choose_prior(Z, Y, [9, 3, 1]), ValueError, "logits must have shape (num_samples, C), got (4, 2) for 4 labels and 3 class counts"),
        (lambda: cbcore.choose_prior(Z, Y.astype(float), N), TypeError, "labels must be integers (class indices), got float64"),
        (lambda: cbcore.choose_prior(Z, Y[:, None], N), ValueError, "labels must have shape (num_samples,), got (4, 1)"),
        (lambda: cbcore.choose_prior(Z, Y + 1, N), ValueError, "labels must lie in [0, 2), got values from 1 to 2"),
        (lambda: cbcore.choose_prior(Z, 0 * Y, N), ValueError, "labels must hold a validation sample of every class, got none for 1 of 2 classes (1)"),
        (lambda: cbcore.choose_prior(np.zeros((1, 20)), [0], [9, 3] * 10), ValueError, "got none for 19 of 20 classes (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, ...)"),
        (lambda: cbcore.choose_prior(Z * np.nan, Y, N), ValueError, "logits must not be NaN, got NaN"),
        (lambda: cbcore.choose_prior(Z, Y, N, taus=[-1]), ValueError, "tau must be at least 0, got -1"),
        (lambda: cbcore.choose_prior(Z, Y, N, taus=1.0), ValueError, "taus must be a list of at least one number to try, got shape () of float64"),
        (lambda: cbcore.choose_prior(Z, Y, N, betas=[]), ValueError, "betas must be a list of at least one number to try, got shape (0,)"),
        (lambda: cbcore.choose_prior(Z, Y, N, betas=[2]), ValueError, "beta must be in [0, 1], got 2"),
        (lambda: cbcore.choose_prior(Z, Y, N, draws=0), ValueError, "draws must be at least 1, got 0"),
        (lambda: cbcore.choose_prior(Z, Y, N, confidence=95), ValueError, "confidence must be in [0, 1], got 95"),
        (lambda: cbcore.choose_prior(torch.zeros(4, 2, requires_grad=True), Y, N), TypeError, "pass logits.detach()"),
    ],
)  # fmt: skip
def test_errors(call: Any, kind: type[Exception], text: str) -> None:
    with pytest.raises(kind) as caught:
        call()
    assert text in str(caught.value)
