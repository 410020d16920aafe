"""TensorFlow: our functions, Keras and tf.nn, each as a graph and under XLA."""

from collections.abc import Callable
from functools import partial
from typing import Any, TypeAlias

import keras
import tensorflow as tf

import cbcore_tf
from benchmarks.problem import Candidate, Outcome, Problem, data

PATHS = ("graph", "XLA")
DEFAULT_PATHS = PATHS
Tensor: TypeAlias = Any
Loss: TypeAlias = Callable[[Tensor, Tensor, Tensor], Tensor]  # (labels, logits, class weights)


def candidates(problem: Problem, paths: tuple[str, ...], device: str = "cpu") -> tuple[list[Candidate], list[str]]:
    """Return ours, then the peers, each in every mode."""
    tf.get_logger().setLevel("ERROR")  # it warns of tracing again: each problem is traced once, which is right
    if device == "cpu":
        tf.config.set_visible_devices([], "GPU")
    batch = data(problem)
    logits = tf.cast(batch.logits, problem.dtype)
    labels, weights = tf.constant(batch.labels), tf.constant(batch.weights, tf.float32)
    found = []
    for mode in paths:
        step = _step(_ours(problem), labels, logits, weights, mode == "XLA")
        found.append(Candidate("ours", "cbcore", mode, step, _read))
        for name, make in PEERS[problem.family].items():
            step = _step(make(problem), labels, logits, weights, mode == "XLA")
            found.append(Candidate("peer", name, mode, step, _read))
    return found, []


def _step(loss: Loss, labels: Tensor, logits: Tensor, weights: Tensor, use_xla: bool) -> Callable[[], Any]:
    @tf.function(jit_compile=use_xla)  # type: ignore[untyped-decorator]
    def value_and_gradient(y: Tensor, z: Tensor, w: Tensor) -> tuple[Tensor, Tensor]:
        with tf.GradientTape() as tape:
            tape.watch(z)
            value = loss(y, z, w)
        return value, tape.gradient(value, z)

    def step() -> tuple[Tensor, Tensor]:
        value, gradient = value_and_gradient(labels, logits, weights)
        value.numpy()  # waits
        return value, gradient

    return step


def _read(output: tuple[Tensor, Tensor]) -> Outcome:
    return Outcome(float(output[0]), tf.cast(output[1], tf.float32).numpy())


def _ours(problem: Problem) -> Loss:
    if problem.family == "focal":
        return partial(cbcore_tf.sigmoid_focal_loss, gamma=problem.gamma)
    losses = {"softmax": cbcore_tf.softmax_cross_entropy, "sigmoid": cbcore_tf.sigmoid_cross_entropy}
    return losses[problem.family]


# ---------------------------------------------------------------- peers


def _one_hot(y: Tensor, z: Tensor) -> Tensor:
    return tf.one_hot(y, z.shape[1], dtype=z.dtype)


def _weighted(rows: Tensor, y: Tensor, w: Tensor) -> Tensor:
    return tf.reduce_mean(tf.cast(rows, tf.float32) * tf.gather(w, y))


def _keras_softmax(_: Problem) -> Loss:
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    return lambda y, z, w: loss(y, z, sample_weight=tf.gather(w, y))


def _keras_binary(problem: Problem) -> Loss:
    if problem.gamma:
        loss = keras.losses.BinaryFocalCrossentropy(gamma=problem.gamma, from_logits=True)
    else:
        loss = keras.losses.BinaryCrossentropy(from_logits=True)
    # Keras takes the mean over the classes, the paper their sum.
    return lambda y, z, w: loss(_one_hot(y, z), z, sample_weight=tf.gather(w, y)) * problem.classes


def _nn_softmax(_: Problem) -> Loss:
    return lambda y, z, w: _weighted(tf.nn.sparse_softmax_cross_entropy_with_logits(y, z), y, w)


def _nn_sigmoid(_: Problem) -> Loss:
    def loss(y: Tensor, z: Tensor, w: Tensor) -> Tensor:
        return _weighted(tf.reduce_sum(tf.nn.sigmoid_cross_entropy_with_logits(_one_hot(y, z), z), 1), y, w)

    return loss


def _nn_focal(problem: Problem) -> Loss:
    """Return the formula that is copied from tutorial to tutorial."""

    def loss(y: Tensor, z: Tensor, w: Tensor) -> Tensor:
        labels = _one_hot(y, z)
        p = tf.sigmoid(z)
        p_t = p * labels + (1 - p) * (1 - labels)
        terms = tf.nn.sigmoid_cross_entropy_with_logits(labels, z) * (1 - p_t) ** problem.gamma
        return _weighted(tf.reduce_sum(terms, 1), y, w)

    return loss


PEERS: dict[str, dict[str, Callable[[Problem], Loss]]] = {
    "softmax": {
        "keras SparseCategoricalCrossentropy": _keras_softmax,
        "tf.nn sparse softmax * row weight": _nn_softmax,
    },
    "sigmoid": {"keras BinaryCrossentropy * C": _keras_binary, "tf.nn sigmoid * row weight": _nn_sigmoid},
    "focal": {
        "keras BinaryFocalCrossentropy * C": _keras_binary,
        "tf.nn sigmoid * (1-p)**gamma * row weight": _nn_focal,
    },
}
