"""What may come for weights and options, and what a loss object makes of it for good."""

import json
import warnings
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

import keras
import ml_dtypes
import numpy as np
import pytest
import tensorflow as tf

import cbcore_tf
from tests.support.losses import criteria, functions

FUNCTIONS = [*functions(cbcore_tf).values()]
CLASSES = [*criteria(cbcore_tf).values()]
R = np.random.default_rng(0)
X = R.normal(size=(8, 4)).astype(np.float32)
Z = R.normal(size=(8, 3)).astype(np.float32)
Y = R.integers(0, 3, 8)
W = [0.5, 1.0, 1.5]

functions = pytest.mark.parametrize("function", FUNCTIONS)
classes = pytest.mark.parametrize("kind", CLASSES)


class Series:
    """As much of a pandas Series as is asked for."""

    def __init__(self, index: list[Any], numbers: list[float]) -> None:
        self.index, self.numbers, self.ndim, self.iloc = np.array(index), np.array(numbers), 1, None

    def __len__(self) -> int:
        return len(self.numbers)

    def to_numpy(self) -> np.ndarray:
        return self.numbers


def call(kind: Any, weights: Any) -> Any:
    """Give weights to a function, or to a class."""
    return kind(weights)(Y, Z) if isinstance(kind, type) else kind(Y, Z, weights)


# ---------------------------------------------------------------- weights


@pytest.mark.parametrize("kind", [FUNCTIONS[0], CLASSES[2], None])
@pytest.mark.parametrize(
    "weights",
    [
        [900, 90, 10],
        (1, 1, 1),
        np.array([900, 90, 10]),
        np.array([90, 9, 1], np.uint8),
        [True, False, True],
        np.array([True, False, True]),
        tf.constant([900, 90, 10]),
        tf.constant([True, False, True]),
        {0: 900, 1: 90, 2: 10},
        Counter([0, 0, 1, 2]),
        np.array([0.5, 1, 1.5], complex),
    ],
    ids=str,
)
def test_counts_are_no_weights(kind: Any, weights: Any) -> None:
    with pytest.raises(TypeError, match=r"class_weights must be floating point, got .* from_counts"):
        cbcore_tf.class_weight_dict(weights) if kind is None else call(kind, weights)


@pytest.mark.parametrize("kind", [FUNCTIONS[0], CLASSES[2], None])
@pytest.mark.parametrize(
    ("weights", "text"),
    [
        ([0.5, -1.0, 1.0], r"finite and not negative, got -1\.0 for class 1"),
        ([0.5, 1.0, np.nan], "finite and not negative, got nan for class 2"),
        ([np.inf, 1.0, 1.0], "finite and not negative, got inf for class 0"),
        ([900.0, 90.0, 10.0], "be weights, got whole numbers .* from_counts"),
        (np.array([900, 90, 10], np.float32), "be weights, got whole numbers .* from_counts"),
        (np.array([900, 90, 10], ml_dtypes.bfloat16), "be weights, got whole numbers .* from_counts"),
        ({0: 1.0, 2: 1.5}, "hold a number for every class, got none for class 1"),
        (Series([2, 0], [1.0, 1.5]), "hold a number for every class, got none for class 1"),
    ],
    ids=str,
)
def test_the_values_of_weights_are_looked_at_once(kind: Any, weights: Any, text: str) -> None:
    with pytest.raises(ValueError, match=f"class_weights must .*{text}"):
        cbcore_tf.class_weight_dict(weights) if kind is None else call(kind, weights)


@classes
@pytest.mark.parametrize("weights", [[900.0, 90, 10], [-1.0, 1, 1], [np.nan, 1, 1]])
def test_a_loss_object_looks_at_tensors_too(kind: Any, weights: list[float]) -> None:
    with pytest.raises(ValueError, match="class_weights must be"):
        kind(tf.constant(weights))


@pytest.mark.parametrize("kind", [*FUNCTIONS, *CLASSES])
def test_weights_with_labels_are_ordered_by_them(kind: Any) -> None:
    expected = call(kind, W)
    for weights in ({2: 1.5, 0: 0.5, 1: 1.0}, {np.int64(k): W[k] for k in (1, 2, 0)}, Series([1, 2, 0], [1, 1.5, 0.5])):
        np.testing.assert_array_equal(call(kind, weights), expected)
    with pytest.raises(TypeError, match="class_weights must be keyed by class indices"):
        call(kind, {"a": 1.0, "b": 1.0, "c": 1.0})
    assert cbcore_tf.class_weight_dict({2: 1.5, 0: 0.5, 1: 1.0}) == dict(enumerate(W))


@pytest.mark.parametrize(
    "weights", [W, tuple(W), np.array(W), tf.constant(W), [tf.constant(w) for w in W], np.array(W, ml_dtypes.bfloat16)]
)
@pytest.mark.parametrize("kind", [*FUNCTIONS, *CLASSES])
def test_weights_of_any_floating_kind(kind: Any, weights: Any) -> None:
    np.testing.assert_allclose(call(kind, weights), call(kind, np.array(W, np.float32)), rtol=1e-6)


@functions
def test_weights_made_in_a_graph(function: Any) -> None:
    step = tf.function(lambda w: function(Y, Z, [w, w * 2, w * 3]))
    np.testing.assert_allclose(step(tf.constant(0.5)), function(Y, Z, W), rtol=1e-6)


@functions
@pytest.mark.parametrize("jit_compile", [False, True])
def test_a_variable_stays_live_in_a_function(function: Any, jit_compile: bool) -> None:
    weights = tf.Variable(W)
    step = tf.function(lambda z: function(Y, z, weights), jit_compile=jit_compile)
    np.testing.assert_allclose(step(Z), function(Y, Z, W), rtol=1e-6)
    weights.assign(W[::-1])
    np.testing.assert_allclose(step(Z), function(Y, Z, W[::-1]), rtol=1e-6)


@classes
def test_a_loss_object_refuses_weights_that_change(kind: Any) -> None:
    for weights in (tf.Variable(W), keras.Variable(W)):
        with pytest.raises(TypeError, match=r"class_weights must be fixed numbers, got .*Variable"):
            kind(weights)
    with pytest.raises(TypeError, match="class_weights must be fixed numbers, got a tensor of a graph"):
        tf.function(lambda w: kind(w)(Y, Z))(tf.constant(W))


# ---------------------------------------------------------------- options


@pytest.mark.parametrize("number", [255, np.int64(255), np.array(255), tf.constant(255), tf.constant(255, tf.uint8)])
@pytest.mark.parametrize("kind", [*FUNCTIONS, *CLASSES])
def test_the_class_to_ignore(kind: Any, number: Any) -> None:
    y = np.where(np.arange(8) < 5, Y, 255)
    given = kind(ignore_class=number)(y, Z) if isinstance(kind, type) else kind(y, Z, ignore_class=number)
    function = FUNCTIONS[CLASSES.index(kind)] if kind in CLASSES else kind
    np.testing.assert_allclose(given, function(Y[:5], Z[:5]), rtol=1e-6)


@pytest.mark.parametrize(
    "wrong",
    [[1, 0], (1,), "255", 255.0, True, np.array([1]), tf.constant([1]), tf.constant(1.0), tf.constant(True), {1}],
    ids=str,
)
@pytest.mark.parametrize("kind", [FUNCTIONS[0], CLASSES[2]])
def test_what_cannot_be_ignored(kind: Any, wrong: Any) -> None:
    with pytest.raises(TypeError, match="ignore_class must be an integer"):
        kind(ignore_class=wrong) if isinstance(kind, type) else kind(Y, Z, ignore_class=wrong)
    with pytest.raises(TypeError, match="ignore_class must be an integer"):
        CLASSES[0](ignore_class=tf.Variable(1))


OPTIONS = {"gamma": 2.0, "label_smoothing": 0.125, "axis": 1, "ignore_class": 2, "unlabelled_weight": 0.25}


@pytest.mark.parametrize("make", [tf.constant, np.array, lambda x: np.array(x)[()], lambda x: x])
def test_options_are_kept_as_plain_numbers(make: Any) -> None:
    loss = cbcore_tf.SigmoidFocalLoss(W, **{name: make(value) for name, value in OPTIONS.items()})
    config = loss.get_config()
    assert {name: config[name] for name in OPTIONS} == OPTIONS
    assert {name: type(config[name]) for name in OPTIONS} == {name: type(value) for name, value in OPTIONS.items()}
    again = keras.losses.deserialize(json.loads(json.dumps(keras.losses.serialize(loss))))
    assert again.get_config() == config
    options = {name: make(value) for name, value in OPTIONS.items()}
    value = cbcore_tf.sigmoid_focal_loss(Y, Z, W, **options)
    np.testing.assert_allclose(loss(Y, Z), value, rtol=1e-6)
    graph = tf.function(lambda z: cbcore_tf.sigmoid_focal_loss(Y, z, W, **options))
    np.testing.assert_allclose(graph(Z), value, rtol=1e-6)


@pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning")  # Keras
def test_a_model_with_options_from_tensors_is_saved_and_loaded(tmp_path: Path) -> None:
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    model.compile("sgd", cbcore_tf.SigmoidFocalLoss(tf.constant(W), gamma=tf.constant(2.0), axis=np.array(1)))
    model.save(tmp_path / "model.keras")
    assert keras.models.load_model(tmp_path / "model.keras").loss.get_config() == model.loss.get_config()


@pytest.mark.parametrize("name", OPTIONS)
@pytest.mark.parametrize(
    "make", [str, lambda x: [x], lambda x: np.array([x]), lambda x: tf.constant([x]), tf.Variable, keras.Variable]
)
def test_options_that_are_no_plain_numbers(name: str, make: Any) -> None:
    for call in (cbcore_tf.SigmoidFocalLoss, partial(cbcore_tf.sigmoid_focal_loss, Y, Z)):
        with pytest.raises(TypeError, match=f"{name} must be"):
            call(**{name: make(OPTIONS[name])})


@pytest.mark.parametrize(("function", "kind"), list(zip(FUNCTIONS, CLASSES, strict=True)))
def test_rows_without_a_label(function: Any, kind: Any) -> None:
    y = np.eye(3, dtype=np.float32)[Y]
    y[:4] = 0
    weights = np.array(W) * 3
    plain, labelled = function(y, Z, reduction="none"), function(y, Z, weights, reduction="none")
    for given, expected in ((None, 3.0), (0.25, 0.25), (0, 0.0)):
        loss = kind(weights, reduction=None, unlabelled_weight=given)
        assert loss.get_config()["unlabelled_weight"] == given
        for value in (loss(y, Z), function(y, Z, weights, reduction="none", unlabelled_weight=given)):
            np.testing.assert_allclose(value[:4], plain[:4] * expected, rtol=1e-6)
            np.testing.assert_allclose(value[4:], labelled[4:], rtol=1e-6)
    for wrong in (-1, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="unlabelled_weight must be"):
            function(y, Z, weights, unlabelled_weight=wrong)
        with pytest.raises(ValueError, match="unlabelled_weight must be"):
            kind(weights, unlabelled_weight=wrong)


# ---------------------------------------------------------------- what a loss object is made with, it keeps


@classes
def test_weights_and_options_of_a_loss_object_cannot_be_set(kind: Any) -> None:
    loss = kind(W)
    for name, value in {
        "class_weights": W[::-1],
        "axis": 0,
        "ignore_class": 1,
        "label_smoothing": 0.1,
        "unlabelled_weight": 2.0,
    }.items():
        with pytest.raises(AttributeError, match=f"{name} must stay what {kind.__name__} was made with"):
            setattr(loss, name, value)
    with pytest.raises(AttributeError, match="gamma must stay"):
        cbcore_tf.SigmoidFocalLoss().gamma = 2.0
    assert loss.get_config() == kind(W, name=loss.name).get_config()


def test_another_loss_keeps_the_state_of_the_optimizer() -> None:
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    model.compile(keras.optimizers.SGD(0.1, momentum=0.9), cbcore_tf.SoftmaxCrossEntropy(), jit_compile=False)
    model.fit(X, Y, verbose=0)
    momenta = [np.asarray(v) for v in model.optimizer.variables]
    model.compile(model.optimizer, cbcore_tf.SoftmaxCrossEntropy(W), jit_compile=False)
    for kept, now in zip(momenta, model.optimizer.variables, strict=True):
        np.testing.assert_array_equal(kept, now)
    expected = cbcore_tf.softmax_cross_entropy(Y, model(X), W)
    np.testing.assert_allclose(model.train_on_batch(X, Y), expected, rtol=1e-5)


def test_a_loss_object_prints_what_it_is_made_with() -> None:
    common = "reduction='sum_over_batch_size'"
    assert repr(cbcore_tf.SoftmaxCrossEntropy()) == f"SoftmaxCrossEntropy({common})"
    assert repr(cbcore_tf.SoftmaxCrossEntropy([])) == f"SoftmaxCrossEntropy(num_classes=0, {common})"
    loss = cbcore_tf.SigmoidFocalLoss.from_counts([5000, 500, 50], ignore_class=255, dtype="float64", reduction="sum")
    assert str(loss) == (
        "SigmoidFocalLoss(num_classes=3, class_weights=0.1256..2.557, ignore_class=255, gamma=0.5, reduction='sum', "
        "dtype='float64')"
    )
    assert repr(cbcore_tf.SigmoidCrossEntropy(label_smoothing=0.1, axis=1)) == (
        f"SigmoidCrossEntropy(axis=1, label_smoothing=0.1, {common})"
    )


# ---------------------------------------------------------------- functions as the loss of a model


@pytest.mark.parametrize("jit_compile", [False, True])
@functions
def test_a_function_is_a_loss_of_a_model(function: Any, jit_compile: bool) -> None:
    for y in (Y, Y[:, None], Y.astype(np.float32), np.eye(3)[Y]):
        model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
        model.compile("sgd", function, jit_compile=jit_compile)
        expected = function(Y, model(X))
        np.testing.assert_allclose(model.train_on_batch(X, y), expected, rtol=1e-5)


@functions
@pytest.mark.parametrize("shape", [(8,), (8, 1)])
def test_whole_floats_are_class_indices_and_others_none(function: Any, shape: tuple[int, ...]) -> None:
    expected = function(Y, Z, W, reduction="none")
    for dtype in (np.float32, np.float64):
        np.testing.assert_array_equal(function(Y.astype(dtype).reshape(shape), Z, W, reduction="none"), expected)
    labels = Y.astype(np.float32)
    labels[:4] = [0.5, np.nan, np.inf, -1]
    value = function(labels.reshape(shape), Z, W, reduction="none")
    np.testing.assert_array_equal(np.isnan(value), np.arange(8) < 4)
    ignored = function(np.where(Y == 1, 255, Y).astype(np.float32), Z, ignore_class=255)
    np.testing.assert_allclose(ignored, function(Y[Y != 1], Z[Y != 1]), rtol=1e-6)
    with pytest.raises(ValueError, match="y_true must have the shape of y_pred"):
        function(np.ones(8, np.float32), Z[:, :1])


# ---------------------------------------------------------------- sample weights


@classes
@pytest.mark.parametrize("reduction", ["sum_over_batch_size", "sum", "mean_with_sample_weight", None])
@pytest.mark.parametrize("mode", ["eager", "graph", "open"])
def test_one_weight_a_row_counts_for_each_of_its_samples(kind: Any, reduction: str | None, mode: str) -> None:
    y, z = R.integers(0, 3, (4, 5)), R.normal(size=(4, 5, 3)).astype(np.float32)
    loss = kind(W, reduction=reduction)
    step = loss
    for weight in (R.random((4, 1)).astype(np.float32), R.random((1, 5)).astype(np.float32), np.float32(0.5)):
        full = np.broadcast_to(weight, (4, 5))
        expected = loss(y, z, full)
        if mode != "eager":
            shapes = [(None,) * np.ndim(x) if mode == "open" else np.shape(x) for x in (y, z, weight)]
            shapes[1] = (*shapes[1][:-1], 3)
            specs = [tf.TensorSpec(s, x.dtype) for s, x in zip(shapes, (y, z, weight), strict=True)]
            step = tf.function(loss, input_signature=specs)
        np.testing.assert_allclose(step(y, z, weight), expected, rtol=1e-5)
        if reduction == "mean_with_sample_weight":
            each = kind(W, reduction=None)(y, z)
            np.testing.assert_allclose(expected, np.average(each, weights=full), rtol=1e-5)
            masked = tf.constant(z)
            masked._keras_mask = tf.constant(np.arange(20).reshape(4, 5) % 3 > 0)
            counted = full * (np.arange(20).reshape(4, 5) % 3 > 0)
            np.testing.assert_allclose(loss(y, masked, weight), np.average(each, weights=counted), rtol=1e-5)


@classes
def test_weights_of_a_batch_do_not_change_its_shape(kind: Any) -> None:
    assert kind(reduction=None)(Y, Z, np.ones((8, 1), np.float32)).shape == (8,)


@pytest.mark.parametrize("shape", [(2,), (4,), (2, 5), (4, 2), (4, 5, 2), (1, 4, 5)])
def test_sample_weights_of_other_shapes_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"sample_weight must have shape \(4, 5\), one for each sample"):
        cbcore_tf.SoftmaxCrossEntropy()(np.zeros((4, 5), int), np.zeros((4, 5, 3), np.float32), np.ones(shape))


# ---------------------------------------------------------------- probabilities in place of logits


def last(name: str) -> list[Any]:
    return {
        "softmax": [keras.layers.Dense(3, "softmax")],
        "sigmoid": [keras.layers.Dense(3, "sigmoid")],
        "layer": [keras.layers.Dense(3), keras.layers.Softmax()],
        "activation": [keras.layers.Dense(3), keras.layers.Activation("sigmoid")],
        "float32": [keras.layers.Dense(3), keras.layers.Activation("softmax", dtype="float32")],
        "reshape": [keras.layers.Dense(3, "softmax"), keras.layers.Reshape((3,))],
        "logits": [keras.layers.Dense(3)],
        "hidden": [keras.layers.Dense(5, "sigmoid"), keras.layers.Dense(3)],
        "scaled": [keras.layers.Dense(3, "sigmoid"), keras.layers.Rescaling(8.0)],
        "swish": [keras.layers.Dense(3, "swish")],
        "log": [keras.layers.Dense(3, "log_softmax")],
    }[name]


@pytest.mark.parametrize("loss", [CLASSES[0], CLASSES[2], FUNCTIONS[0]])
@pytest.mark.parametrize("jit_compile", [False, True])
@pytest.mark.parametrize("name", ["softmax", "sigmoid", "layer", "activation", "float32", "reshape"])
def test_a_last_activation_is_told_once_while_tracing(name: str, loss: Any, jit_compile: bool) -> None:
    model = keras.Sequential([keras.Input((4,)), *last(name)])
    model.compile("sgd", loss() if isinstance(loss, type) else loss, jit_compile=jit_compile)
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("default")
        model.fit(X, Y, epochs=3, batch_size=4, validation_data=(X, Y), verbose=0)
    texts = [str(w.message) for w in seen if "y_pred must be logits" in str(w.message)]
    assert len(texts) == 1
    assert "remove the activation from the last layer" in texts[0]


@pytest.mark.parametrize("loss", [CLASSES[0], FUNCTIONS[1]])
@pytest.mark.parametrize("name", ["logits", "hidden", "scaled", "swish", "log"])
def test_logits_are_trained_on_without_a_word(name: str, loss: Any) -> None:
    model = keras.Sequential([keras.Input((4,)), *last(name)])
    for eager in (False, True):
        model.compile("sgd", loss() if isinstance(loss, type) else loss, jit_compile=False, run_eagerly=eager)
        model.fit(X, Y, verbose=0)


@functions
def test_a_graph_of_ones_own_tells_it_too(function: Any) -> None:
    for activation in (tf.nn.softmax, tf.sigmoid, lambda z: tf.cast(tf.nn.softmax(tf.cast(z, tf.float64)), tf.float32)):
        with pytest.warns(UserWarning, match=r"y_pred must be logits .* got the output of a s"):
            tf.function(lambda z, f=activation: function(Y, f(z)))(tf.constant(Z))


# ---------------------------------------------------------------- names of elsewhere


@pytest.mark.parametrize(
    ("option", "text"),
    [
        ("from_logits", "the losses always take logits"),
        ("class_weight", "weights of classes are class_weights here"),
        ("alpha", "weights of classes are class_weights here"),
        ("num_classes", "it is the length of class_weights"),
        ("samples_per_class", "that is for from_counts"),
        ("ignore_index", "the index to ignore is ignore_class here"),
        ("colour", "see the signature for the options"),
    ],
)
@classes
def test_options_of_elsewhere_are_told_their_name_here(kind: Any, option: str, text: str) -> None:
    for make in (kind, partial(kind.from_counts, [5, 2, 1])):
        with pytest.raises(
            TypeError, match=f"{kind.__name__} must be given options that it has, got {option}=...; {text}"
        ):
            make(**{option: 1})


@pytest.mark.parametrize("call", [FUNCTIONS[0], lambda y, z: CLASSES[1]()(y, z)])
def test_swapped_arguments_are_told_so(call: Any) -> None:
    with pytest.raises(TypeError, match=r"y_pred must be floating point .* got int64; swap y_pred and y_true"):
        call(Z, Y)
    with pytest.raises(TypeError, match="got int64; cast with"):
        call(Y, np.ones((8, 3), int))


@pytest.mark.parametrize("call", [FUNCTIONS[0], lambda y, z, *w, **o: CLASSES[1](*w)(y, z, **o)])
def test_masked_entries_are_refused(call: Any) -> None:
    for arguments, name in (((np.ma.masked_equal(Y, 0), Z), "y_true"), ((Y, np.ma.masked_less(Z, 0)), "y_pred")):
        with pytest.raises(TypeError, match=f"{name} must have no masked entries"):
            call(*arguments)
    with pytest.raises(TypeError, match="sample_weight must have no masked entries"):
        call(Y, Z, sample_weight=np.ma.masked_equal(np.arange(8.0), 3))
    with pytest.raises(TypeError, match="class_weights must have no masked entries"):
        call(Y, Z, np.ma.masked_equal(W, 1.0))
