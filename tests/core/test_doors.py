"""What comes in at the doors: containers with labels, masks or an order of their own, and what looks like numbers."""

from collections import Counter
from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np
import pandas as pd
import polars as pl
import pytest

import cbcore
from tests.support.losses import FAMILIES, functions

LABELS = [2] * 5 + [0] * 2 + [1] * 9
COUNTS = [2, 9, 5]
CARRIERS = {
    "value_counts": pd.Series(LABELS).value_counts(),
    "value_counts, smallest first": pd.Series(LABELS).value_counts(ascending=True),
    "nullable": pd.Series(LABELS, dtype="Int64").value_counts(),
    "sorted index": pd.Series(LABELS).value_counts().sort_index(),
    "default index": pd.Series(COUNTS),
    "Counter": Counter(LABELS),
    "dict": {1: 9, 2: 5, 0: 2},
    "dict of NumPy keys": {np.int64(1): np.int64(9), np.uint8(2): 5, np.int32(0): 2},
    "polars Series": pl.Series(COUNTS),
}
FUNCTIONS: dict[str, Callable[[Any], Any]] = {
    "class_weights": lambda counts: cbcore.class_weights(counts, 0.9),
    "effective_number": lambda counts: cbcore.effective_number(counts, 0.9),
    "imbalance_factor": cbcore.imbalance_factor,
}


@pytest.mark.parametrize("function", FUNCTIONS.values(), ids=FUNCTIONS)
@pytest.mark.parametrize("counts", CARRIERS.values(), ids=CARRIERS)
def test_counts_are_ordered_by_the_labels_that_they_carry(function: Callable[[Any], Any], counts: Any) -> None:
    np.testing.assert_array_equal(function(counts), function(COUNTS))


def test_a_class_that_no_key_names_is_empty() -> None:
    with pytest.raises(ValueError, match="got 0 for 1 of 4 classes"):
        cbcore.class_weights({0: 5, 1: 4, 3: 1})
    weights = cbcore.class_weights({0: 5, 1: 4, 3: 1}, empty="zero")
    np.testing.assert_array_equal(weights, cbcore.class_weights([5, 4, 0, 1], empty="zero"))


@pytest.mark.parametrize("function", FUNCTIONS.values(), ids=FUNCTIONS)
@pytest.mark.parametrize(
    ("counts", "kind", "text"),
    [
        (pd.Series(["b", "a", "b"]).value_counts(), TypeError, "keyed by class indices 0 to C - 1, got the key 'b'"),
        (pd.Series([True, False]).value_counts(), TypeError, "keyed by class indices"),
        (pd.Series([1, 2], index=pd.IntervalIndex.from_breaks([0, 1, 2])), TypeError, "keyed by class indices"),
        (pd.Series([1, 2], index=[0.0, 1.0]), TypeError, "got the key 0.0"),
        (pd.Series([1, 2, 3], index=[0, 1, 1]), ValueError, "name each class once"),
        (pd.DataFrame({"n": COUNTS}), TypeError, "one number a class, got a DataFrame; pass one column"),
        (pl.Series(LABELS).value_counts(), TypeError, "one number a class, got a DataFrame; pass one column"),
        ({-1: 4, 0: 2}, ValueError, "got the key -1"),
        ({10**12: 4, 0: 2}, ValueError, "got the key 1000000000000"),
        ({"cat": 4}, TypeError, "got the key 'cat' (str)"),
        ({}, ValueError, "at least one class"),
        (np.ma.masked_equal([5, 0, 2], 0), TypeError, "no masked entries, got 1"),
        ((n for n in COUNTS), TypeError, "got a generator; pass list(...)"),
        ({0: 5}.values(), TypeError, "got a dict_values; pass the dictionary itself"),
        ({0: 5}.items(), TypeError, "got a dict_items; a set has no order"),
        ([1, 2**70], ValueError, "fit in 64 bits, got 1180591620717411303424"),
        ({5, 2}, TypeError, "got a set"),
        ([5, "2"], TypeError, "must be numbers"),
        ([5, None], TypeError, "must be numbers, got None (NoneType)"),
        ([[5], [2, 1]], ValueError, "numbers of one shape"),
    ],
    ids=str,
)
def test_what_has_no_class_indices_is_refused(
    function: Callable[[Any], Any], counts: Any, kind: type[Exception], text: str
) -> None:
    with pytest.raises(kind, match=r"^class_counts must") as caught:
        function(counts)
    assert text in str(caught.value)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, ml_dtypes.bfloat16, np.int8, np.uint64, object])
@pytest.mark.parametrize("normalize", ["classes", "samples", None])
def test_counts_are_added_up_in_float64_whatever_they_came_in(dtype: Any, normalize: Any) -> None:
    counts = [120, 96, 8]
    expected = cbcore.class_weights(counts, 0.9, normalize=normalize)
    np.testing.assert_array_equal(cbcore.class_weights(np.array(counts, dtype), 0.9, normalize=normalize), expected)
    large = np.array([60000, 50000, 40000])
    np.testing.assert_array_equal(
        cbcore.class_weights(large.astype(np.float16), 1, normalize="samples"),
        cbcore.class_weights(large.astype(np.float16).astype(int), 1, normalize="samples"),
    )


def test_beta_of_each_class_is_ordered_by_its_keys() -> None:
    expected = cbcore.class_weights([5, 3, 2], [0.1, 0.5, 0.9])
    for beta in ({2: 0.9, 1: 0.5, 0: 0.1}, pd.Series([0.9, 0.5, 0.1], index=[2, 1, 0])):
        np.testing.assert_array_equal(cbcore.class_weights([5, 3, 2], beta), expected)
    prototypes = pd.Series([30.0, 20.0, 10.0], index=[2, 1, 0])
    expected = cbcore.class_weights([5, 3, 2], num_prototypes=[10, 20, 30])
    np.testing.assert_array_equal(cbcore.class_weights([5, 3, 2], num_prototypes=prototypes), expected)
    with pytest.raises(ValueError, match="beta must hold a number for every class"):
        cbcore.class_weights([5, 3, 2], {0: 0.9, 1: 0.5})


class TestLabels:
    @pytest.mark.parametrize(
        ("labels", "kind", "text"),
        [
            (np.ma.masked_equal([0, 1, 1, 2, 0, 0], 0), TypeError, "no masked entries, got 3 in a masked array"),
            ([0, 10**12], ValueError, "got 1000000000000 among 2 labels; number the classes"),
            (np.array([0, 2**63], np.uint64), ValueError, "got 9223372036854775808"),
            ([0, 2**63], ValueError, "got 9223372036854775808; ids are no class indices"),
            ([0, -(2**70)], ValueError, "got -1180591620717411303424"),
            (np.array([0, 2**64 - 1], np.uint64), ValueError, "got 18446744073709551615"),
            (["cat", "dog"], TypeError, "got cat (str); number the classes, e.g. names, labels = np.unique"),
            (pd.Series(["a", "b"], dtype="category"), TypeError, "got a (str)"),
            ([0, None, 1], TypeError, "got None (NoneType); leave out the samples without a label"),
            (pd.Series([0, None, 1], dtype="Int64"), TypeError, "leave out the samples without a label"),
            (np.array([0.0, np.nan]), TypeError, "leave out the samples without a label"),
            (np.array([0.0, 1.0]), TypeError, "got float64; cast them"),
            ([True, False], TypeError, "got bool; cast them"),
            (Counter([0, 1]), TypeError, "got a Counter"),
            (None, TypeError, "must be an array or a list, got a NoneType"),
            ("012", TypeError, "got a str; text is no array"),
            (map(int, "01"), TypeError, "got a map; pass list(...)"),
            ({0, 1}, TypeError, "got a set"),
            ([[0], [1, 2]], ValueError, "numbers of one shape, got a list"),
        ],
        ids=str,
    )
    def test_what_is_no_class_index_is_refused(self, labels: Any, kind: type[Exception], text: str) -> None:
        with pytest.raises(kind, match=r"^labels must") as caught:
            cbcore.class_counts(labels)
        assert text in str(caught.value)

    def test_a_label_out_of_a_given_range_is_named_as_it_is(self) -> None:
        with pytest.raises(ValueError, match="from 0 to 9223372036854775808"):
            cbcore.class_counts(np.array([0, 2**63], np.uint64), 3)

    def test_a_number_of_classes_is_no_id(self) -> None:
        for function in (lambda: cbcore.class_counts([0, 1], 10**12), lambda: cbcore.long_tailed_counts(9, 10**13, 2)):
            with pytest.raises(ValueError, match="num_classes must be at most 1000000000"):
                function()

    def test_columns_and_masks_that_hide_nothing_count(self) -> None:
        for labels in (pd.Series([0, 2, 0], dtype="Int64"), np.ma.masked_array([0, 2, 0]), pl.Series([0, 2, 0])):
            assert cbcore.class_counts(labels).tolist() == [2, 0, 1]

    @pytest.mark.parametrize("ignored", [-1, np.int64(-1), np.array(-1)])
    def test_one_index_is_ignored(self, ignored: Any) -> None:
        assert cbcore.class_counts([0, -1, 2], ignore_index=ignored).tolist() == [1, 0, 1]
        assert cbcore.class_counts(np.array([0, 255, 2], np.uint8), ignore_index=255).tolist() == [1, 0, 1]
        assert cbcore.class_counts(np.array([0, 1, 2], np.uint8), ignore_index=-100).tolist() == [1, 1, 1]

    @pytest.mark.parametrize("ignored", [[0, 1, 1, 0], "255", 1.0, np.array([1]), True, np.nan])
    def test_anything_else_is_no_index_to_ignore(self, ignored: Any) -> None:
        with pytest.raises(TypeError, match=r"ignore_index must be an integer .* or None"):
            cbcore.class_counts([0, 1, 1, 0], 2, ignore_index=ignored)


LOSSES = [*functions(cbcore).values()]
SOFTMAX = {family.function for family in FAMILIES.values() if family.is_softmax}
LOGITS, TARGETS = np.array([[2.0, 0, -1], [0, 1, 3]]), np.array([0, 2])


@pytest.mark.parametrize("loss", LOSSES)
class TestLosses:
    @pytest.mark.parametrize("weights", [[900, 90, 10], np.array([900, 90, 10]), [True, False, True]], ids=str)
    def test_counts_are_no_weights(self, loss: Callable[..., Any], weights: Any) -> None:
        with pytest.raises(TypeError, match="class_weights must be floating point"):
            loss(LOGITS, TARGETS, weights)

    @pytest.mark.parametrize("weights", [[900.0, 90.0, 10.0], [1.0, -1.0, 2.5], [1.0, np.nan, 2.5], [1.0, np.inf, 2.5]])
    def test_the_values_of_weights_are_looked_at(self, loss: Callable[..., Any], weights: Any) -> None:
        with pytest.raises(ValueError, match=r"class_weights must be (weights|finite and not negative), got"):
            loss(LOGITS, TARGETS, weights)

    def test_weights_are_ordered_by_their_keys(self, loss: Callable[..., Any]) -> None:
        expected = loss(LOGITS, TARGETS, [0.5, 1.0, 2.0])
        for weights in ({2: 2.0, 0: 0.5, 1: 1.0}, pd.Series([2.0, 0.5, 1.0], index=[2, 0, 1])):
            assert loss(LOGITS, TARGETS, weights) == expected
        with pytest.raises(ValueError, match="a number for every class, got none for class 1 of 3"):
            loss(LOGITS, TARGETS, {0: 1.0, 2: 0.5})

    def test_masked_arrays_are_refused(self, loss: Callable[..., Any]) -> None:
        with pytest.raises(TypeError, match="targets must have no masked entries"):
            loss(LOGITS, np.ma.masked_equal(TARGETS, 0))
        with pytest.raises(TypeError, match="logits must have no masked entries"):
            loss(np.ma.masked_greater(LOGITS, 2), TARGETS)

    def test_what_is_missing_is_named(self, loss: Callable[..., Any]) -> None:
        with pytest.raises(TypeError, match="targets must be an array, got None"):
            loss(LOGITS, None)
        with pytest.raises(TypeError, match="logits must be an array, got None"):
            loss(None, TARGETS)

    def test_swapped_arguments_are_told_apart(self, loss: Callable[..., Any]) -> None:
        with pytest.raises(TypeError, match="swap logits and targets"):
            loss(TARGETS, LOGITS)

    def test_unlabelled_rows_follow_the_scale_of_the_weights(self, loss: Callable[..., Any]) -> None:
        none, weights = np.zeros((2, 3)), np.array([0.1, 0.2, 0.9])
        alone = loss(LOGITS, none, reduction="none")
        assert (alone == 0).all() == (loss.__name__ in SOFTMAX)  # no label, no loss
        np.testing.assert_allclose(loss(LOGITS, none, weights, reduction="none"), alone * weights.mean())
        np.testing.assert_allclose(
            loss(LOGITS, none, weights, reduction="none", unlabelled_weight=np.float32(0.25)), alone * 0.25
        )
        for bad, kind in ((-1, ValueError), (np.inf, ValueError), (np.nan, ValueError), ("1", TypeError)):
            with pytest.raises(kind, match="unlabelled_weight must be"):
                loss(LOGITS, none, weights, unlabelled_weight=bad)


@pytest.mark.parametrize("gamma", ["2", [2.0], np.array([2.0]), None])
def test_options_are_numbers(gamma: Any) -> None:
    with pytest.raises(TypeError, match="gamma must be a number"):
        cbcore.sigmoid_focal_loss(LOGITS, TARGETS, gamma=gamma)


def test_options_are_converted() -> None:
    expected = cbcore.sigmoid_focal_loss(LOGITS, TARGETS, gamma=2.0, label_smoothing=0.1)
    assert cbcore.sigmoid_focal_loss(LOGITS, TARGETS, gamma=np.array(2), label_smoothing=np.float32(0.1)) == (
        pytest.approx(expected, rel=1e-7)
    )
