import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import cbcore

labels = st.lists(st.integers(0, 20), min_size=1, max_size=200)


@given(labels)
def test_counts_add_up_and_ignore_order(values: list[int]) -> None:
    counts = cbcore.class_counts(values)
    assert counts.dtype == np.int64
    assert counts.tolist() == [values.count(i) for i in range(max(values) + 1)]
    assert cbcore.class_counts(values[::-1]).tolist() == counts.tolist()


@given(labels, labels)
def test_counts_of_a_concatenation(a: list[int], b: list[int]) -> None:
    total = cbcore.class_counts(a, 21) + cbcore.class_counts(b, 21)
    assert cbcore.class_counts(a + b, 21).tolist() == total.tolist()


def test_classes_without_samples_and_ignored_labels() -> None:
    assert cbcore.class_counts([], 3).tolist() == [0, 0, 0]
    assert cbcore.class_counts([1, 255, 1], 4, ignore_index=255).tolist() == [0, 2, 0, 0]
    assert cbcore.class_counts(np.array([1, 255, 1], np.uint8), 300).tolist()[255] == 1
    assert cbcore.class_counts(np.array([3, 3], np.uint64)).tolist() == [0, 0, 0, 2]


@pytest.mark.parametrize("seed", [None, 0, 7])
def test_long_tailed_indices(seed: int | None) -> None:
    values = np.random.default_rng(1).permutation(np.repeat(np.arange(5), 81))
    kept = cbcore.long_tailed_indices(values, 81, seed=seed)
    assert cbcore.class_counts(values[kept]).tolist() == [81, 27, 9, 3, 1]
    assert (np.diff(kept) > 0).all()
    np.testing.assert_array_equal(kept, cbcore.long_tailed_indices(values, 81, seed=seed))


def test_without_a_seed_the_first_samples_are_kept() -> None:
    values = np.array([1, 0, 1, 0, 1, 0, 1, 0])
    assert cbcore.long_tailed_indices(values, 2).tolist() == [0, 1, 2, 3, 5, 7]


def test_seeds_differ() -> None:
    values = np.repeat(np.arange(3), 100)
    first, second = (cbcore.long_tailed_indices(values, 10, seed=seed).tolist() for seed in (0, 1))
    assert first != second
