"""The losses inside Keras: training, masks, sample weights, reductions, saving, policies, XLA and distribution."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

import cbcore
import cbcore_tf
from tests.support.losses import criteria, functions

PAIRS = [*zip(criteria(cbcore_tf).values(), functions(cbcore_tf).values(), strict=True)]
COUNTS = [50, 20, 5]
WEIGHTS = cbcore.class_weights(COUNTS)
R = np.random.default_rng(0)
X = R.normal(size=(8, 4)).astype(np.float32)
Z = R.normal(size=(8, 3)).astype(np.float32)
Y = R.integers(0, 3, 8)
ONE_HOT = np.eye(3, dtype=np.float32)[Y]
MULTI_HOT = (R.random((8, 3)) < 0.5).astype(np.float32)
CLOSE = {"rtol": 2e-6}

both = pytest.mark.parametrize(("kind", "function"), PAIRS)


@pytest.fixture
def policy() -> Iterator[Any]:
    yield keras.config.set_dtype_policy
    keras.config.set_dtype_policy("float32")


def model_of(loss: Any, *, classes: int = 3, features: int = 4, **options: Any) -> Any:
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((features,)), keras.layers.Dense(classes)])
    model.compile("sgd", loss, **{"jit_compile": False, **options})
    return model


def trained(loss: Any, y: Any, x: np.ndarray = X, *, options: dict[str, Any] | None = None, **fit: Any) -> np.ndarray:
    model = model_of(loss, **(options or {}))
    model.fit(x, y, batch_size=4, epochs=1, shuffle=False, verbose=0, **fit)
    return np.asarray(model.get_weights()[0])


# ---------------------------------------------------------------- configuration


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        (cbcore_tf.SoftmaxCrossEntropy, {}),
        (cbcore_tf.SigmoidCrossEntropy, {"axis": 1, "ignore_class": 255, "reduction": None, "dtype": "float64"}),
        (cbcore_tf.SigmoidFocalLoss, {"gamma": 2.0, "label_smoothing": 0.1, "reduction": "sum", "name": "loss"}),
    ],
)
def test_configuration_survives_json(kind: Any, options: dict[str, Any]) -> None:
    loss = kind.from_counts(COUNTS, 0.99, **options)
    config = keras.losses.serialize(loss)
    again = keras.losses.deserialize(json.loads(json.dumps(config)))
    assert type(again) is kind
    assert config["registered_name"] == f"cbcore>{kind.__name__}"
    assert again.get_config() == loss.get_config()
    assert options.items() <= again.get_config().items()
    np.testing.assert_array_equal(again.class_weights, loss.class_weights)
    np.testing.assert_allclose(loss.class_weights, cbcore.class_weights(COUNTS, 0.99), rtol=1e-7)


def test_beta_is_0_999_if_not_given() -> None:
    loss = cbcore_tf.SoftmaxCrossEntropy.from_counts(COUNTS)
    np.testing.assert_allclose(loss.class_weights, cbcore.class_weights(COUNTS, 0.999), rtol=1e-7)
    loss = cbcore_tf.SoftmaxCrossEntropy.from_counts([9, 0], num_prototypes=10, normalize=None, empty="one")
    expected = cbcore.class_weights([9, 0], num_prototypes=10, normalize=None, empty="one")
    np.testing.assert_allclose(loss.class_weights, expected, rtol=1e-7)


def test_unweighted_losses_have_a_configuration_too() -> None:
    assert cbcore_tf.SigmoidFocalLoss.from_config(cbcore_tf.SigmoidFocalLoss().get_config()).class_weights is None


@pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning")  # Keras
def test_a_saved_model_keeps_its_loss(tmp_path: Path) -> None:
    model = model_of(cbcore_tf.SigmoidFocalLoss(WEIGHTS, gamma=1.0))
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    assert again.loss.get_config() == model.loss.get_config()
    assert again.evaluate(X, Y, verbose=0) == model.evaluate(X, Y, verbose=0)


# ---------------------------------------------------------------- labels


@both
@pytest.mark.parametrize("y", [Y, Y[:, None], Y.astype(np.float32)[:, None], ONE_HOT, ONE_HOT.astype(int)])
def test_the_loss_of_a_batch_is_the_functions_mean(kind: Any, function: Any, y: np.ndarray) -> None:
    np.testing.assert_allclose(kind(WEIGHTS)(y, Z), function(Y, Z, WEIGHTS), **CLOSE)


@both
def test_multi_hot_and_smoothed_labels(kind: Any, function: Any) -> None:
    loss = kind(WEIGHTS, label_smoothing=0.1)
    np.testing.assert_allclose(loss(MULTI_HOT, Z), function(MULTI_HOT, Z, WEIGHTS, label_smoothing=0.1), **CLOSE)


def test_an_index_that_is_no_whole_number_is_no_class() -> None:
    loss = cbcore_tf.SoftmaxCrossEntropy(ignore_class=-1, reduction=None)
    value = loss(np.array([0, 1.5, np.nan, np.inf, -1], np.float32), Z[:5])
    np.testing.assert_array_equal(np.isnan(value), [False, True, True, True, False])


@pytest.mark.parametrize("jit_compile", [False, True])
@both
def test_training_steps_agree_for_all_forms_of_labels(kind: Any, function: Any, jit_compile: bool) -> None:
    options = {"jit_compile": jit_compile}
    kernel = trained(kind(WEIGHTS), Y, options=options)
    forms = [ONE_HOT] if jit_compile else [Y[:, None], ONE_HOT]
    for y in forms:
        np.testing.assert_allclose(trained(kind(WEIGHTS), y, options=options), kernel, **CLOSE)

    model = model_of(None)
    optimizer = keras.optimizers.SGD(0.01)
    for batch in (slice(0, 4), slice(4, 8)):
        with tf.GradientTape() as tape:
            value = function(Y[batch], model(X[batch]), WEIGHTS)
        optimizer.apply(tape.gradient(value, model.trainable_variables), model.trainable_variables)
    np.testing.assert_allclose(kernel, model.get_weights()[0], **CLOSE)


def test_training_on_multi_hot_labels_lowers_the_loss() -> None:
    model = model_of(cbcore_tf.SigmoidCrossEntropy(WEIGHTS))
    history = model.fit(X, MULTI_HOT, epochs=3, batch_size=8, verbose=0).history["loss"]
    assert history[0] > history[1] > history[2]


@pytest.mark.parametrize("name", ["mixed_float16", "mixed_bfloat16"])
def test_labels_beyond_256_survive_half_precision_policies(policy: Any, name: str) -> None:
    y = np.array([257, 258, 299, 0])
    weights = np.linspace(0.5, 1.5, 300)
    policy(name)
    loss = cbcore_tf.SoftmaxCrossEntropy(weights)
    model = model_of(loss, classes=300)
    logits = model(X[:4])
    assert logits.dtype == name.removeprefix("mixed_")
    expected = cbcore_tf.softmax_cross_entropy(y, logits, weights)
    np.testing.assert_allclose(loss(y, logits), expected, **CLOSE)
    np.testing.assert_allclose(model.evaluate(X[:4], y, verbose=0), expected, rtol=1e-5)
    assert np.isfinite(model.train_on_batch(X[:4], y))


def test_float64_where_it_is_asked_for() -> None:
    z = Z.astype(np.float64)
    value = cbcore_tf.SigmoidFocalLoss(WEIGHTS, dtype="float64")(Y, z)
    np.testing.assert_allclose(value, cbcore_tf.sigmoid_focal_loss(Y, z, WEIGHTS), rtol=1e-14)
    keras.config.set_floatx("float64")
    try:
        assert cbcore_tf.SigmoidFocalLoss().dtype == "float64"
        keras.config.set_floatx("bfloat16")
        assert cbcore_tf.SigmoidFocalLoss().dtype == "float32"
    finally:
        keras.config.set_floatx("float32")


# ---------------------------------------------------------------- what counts


@both
def test_sample_weights(kind: Any, function: Any) -> None:
    weight = R.random(8).astype(np.float32)
    expected = function(Y, Z, WEIGHTS, sample_weight=weight)
    for form in (weight, weight[:, None]):
        np.testing.assert_allclose(kind(WEIGHTS)(Y, Z, form), expected, **CLOSE)


@pytest.mark.parametrize("reduction", ["sum_over_batch_size", "mean", "sum", "mean_with_sample_weight", "none", None])
def test_reductions(reduction: str | None) -> None:
    weight = R.random(8).astype(np.float32)
    y = np.where(np.arange(8) < 5, Y, -1)
    value = cbcore_tf.SoftmaxCrossEntropy(WEIGHTS, ignore_class=-1, reduction=reduction)(y, Z, weight)
    each = cbcore_tf.softmax_cross_entropy(Y[:5], Z[:5], WEIGHTS, sample_weight=weight[:5], reduction="none")
    expected = {
        "sum": np.sum(each),
        "mean_with_sample_weight": np.sum(each) / weight[:5].sum(),
        "none": np.pad(each, (0, 3)),
        None: np.pad(each, (0, 3)),
    }
    np.testing.assert_allclose(value, expected.get(reduction, np.mean(each)), **CLOSE)


@both
@pytest.mark.parametrize("mode", ["eager", "graph", "xla"])
def test_masked_and_ignored_samples_play_no_part_whatever_they_hold(kind: Any, function: Any, mode: str) -> None:
    y = np.array([[0, 1, 2, -7], [1, -1, 5, 2]])  # -1 is ignored, -7 and 5 are masked
    mask = np.array([[True, True, True, False], [True, True, False, False]])
    counted = mask & (y != -1)
    z = R.normal(size=(2, 4, 3)).astype(np.float32)
    z[~counted] = np.nan
    loss = kind(WEIGHTS, ignore_class=-1)

    def step(y: Any, z: Any, mask: Any) -> Any:
        with tf.GradientTape() as tape:
            tape.watch(z)
            logits = tf.identity(z)
            logits._keras_mask = mask
            value = loss(y, logits)
        return value, tape.gradient(value, z)

    if mode != "eager":
        step = tf.function(step, jit_compile=mode == "xla")
    for labels in (y, y[..., None]):
        value, gradient = step(tf.constant(labels), tf.constant(z), tf.constant(mask))
        np.testing.assert_allclose(value, function(y[counted], z[counted], WEIGHTS), **CLOSE)
        assert np.isfinite(gradient).all()
        assert not np.any(gradient.numpy()[~counted])

    value, gradient = step(tf.constant(y), tf.constant(z), tf.constant(mask & False))
    assert value == 0
    assert not np.any(gradient)


def test_masks_of_a_model_reach_the_loss() -> None:
    x = R.normal(size=(2, 3, 4)).astype(np.float32)
    x[0, 1:] = 0
    y = np.array([[1, -9, 7], [0, 2, 1]])
    model = keras.Sequential([keras.Input((3, 4)), keras.layers.Masking(), keras.layers.Dense(3)])
    model.compile("sgd", cbcore_tf.SoftmaxCrossEntropy(WEIGHTS), jit_compile=False)
    counted = np.array([[True, False, False], [True, True, True]])
    expected = cbcore_tf.softmax_cross_entropy(y[counted], np.asarray(model(x))[counted], WEIGHTS)
    np.testing.assert_allclose(model.evaluate(x, y, verbose=0), expected, **CLOSE)
    np.testing.assert_allclose(model.train_on_batch(x, y), expected, **CLOSE)


@pytest.mark.parametrize("y", [MULTI_HOT, MULTI_HOT.astype(bool)])
def test_dense_labels_are_masked_too(y: np.ndarray) -> None:
    z = tf.constant(np.where(np.arange(8)[:, None] < 5, Z, np.nan))
    z._keras_mask = tf.constant(np.arange(8) < 5)
    expected = cbcore_tf.sigmoid_cross_entropy(MULTI_HOT[:5], Z[:5], WEIGHTS)
    np.testing.assert_allclose(cbcore_tf.SigmoidCrossEntropy(WEIGHTS)(y, z), expected, **CLOSE)


def test_a_mask_of_another_shape_never_broadcasts() -> None:
    z = tf.constant(Z)
    z._keras_mask = tf.constant([True])
    with pytest.raises(ValueError, match=r"the mask of y_pred must have shape \(8,\), .* got \(1,\)"):
        cbcore_tf.SigmoidCrossEntropy()(Y, z)


def test_a_batch_with_nothing_valid_gives_zero() -> None:
    loss = cbcore_tf.SigmoidFocalLoss(WEIGHTS, ignore_class=9)
    assert loss(np.full(8, 9), Z * np.nan) == 0


def test_an_image_with_void_pixels_in_either_layout() -> None:
    y = R.integers(0, 3, (2, 4, 5))
    y[0, 1] = 255
    z = R.normal(size=(2, 4, 5, 3)).astype(np.float32)
    expected = cbcore_tf.softmax_cross_entropy(y[y != 255], z[y != 255], WEIGHTS)
    np.testing.assert_allclose(cbcore_tf.SoftmaxCrossEntropy(WEIGHTS, ignore_class=255)(y, z), expected, **CLOSE)
    first = cbcore_tf.SoftmaxCrossEntropy(WEIGHTS, ignore_class=255, axis=1)
    np.testing.assert_allclose(first(y[..., None], np.moveaxis(z, -1, 1)), expected, **CLOSE)


# ---------------------------------------------------------------- beside the losses


def test_class_weight_dict_weights_another_loss() -> None:
    plain = cbcore_tf.SoftmaxCrossEntropy()
    kernel = trained(plain, Y, class_weight=cbcore_tf.class_weight_dict(WEIGHTS))
    np.testing.assert_allclose(kernel, trained(cbcore_tf.SoftmaxCrossEntropy(WEIGHTS), Y), **CLOSE)
    assert not np.allclose(kernel, trained(plain, Y))


def test_two_replicas_train_as_one_device_does() -> None:
    expected = trained(cbcore_tf.SigmoidFocalLoss(WEIGHTS), Y)
    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    assert strategy.num_replicas_in_sync == 2
    with strategy.scope():
        kernel = trained(cbcore_tf.SigmoidFocalLoss(WEIGHTS), Y)
    np.testing.assert_allclose(kernel, expected, **CLOSE)
