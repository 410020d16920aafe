"""Everything random, in NumPy: the split, the initial weights and the order of the batches.

No framework's generator is used, so every framework trains on the same numbers in the same order.
"""

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from sklearn.datasets import load_digits

import cbcore
from examples.digits.recipe import Loss, Recipe, Weighting

Floats: TypeAlias = npt.NDArray[np.float32]
Integers: TypeAlias = npt.NDArray[np.int64]
Params: TypeAlias = dict[str, Floats]

NUM_CLASSES = 10
NUM_PIXELS = 64
NUM_HIDDEN = 64
# The rarest digit has 174 images. Every class gives as many, so that any of them could be the largest.
PER_CLASS = 174
TEST_PER_CLASS = 40
TRAIN_PER_CLASS = PER_CLASS - TEST_PER_CLASS


@dataclass(frozen=True)
class Problem:
    """One seed's data.

    Parameters
    ----------
    train_images, test_images : array of float32, shape (num_samples, 64)
        Pixels in [0, 1].
    train_labels, test_labels : array of int64, shape (num_samples,)
        Long-tailed, class 0 the largest; balanced, 40 of each class.
    class_counts : array of int64, shape (10,)
        Training samples per class.
    batches : array of int64, shape (epochs, steps, batch_size)
        Which training samples each step sees.
    seed : int
        Also for `initial_params`.
    """

    train_images: Floats
    train_labels: Integers
    test_images: Floats
    test_labels: Integers
    class_counts: Integers
    batches: Integers
    seed: int


def make_problem(seed: int, imbalance: float, recipe: Recipe) -> Problem:
    """Split the digits into a balanced test set and a long-tailed training set, and fix the order of the batches.

    Parameters
    ----------
    seed : int
        Of the split and of the order.
    imbalance : float
        As in `cbcore.long_tailed_counts`; the smallest class must keep a sample.
    recipe : Recipe
        Its epochs and batch size.
    """
    digits = load_digits()
    images = (digits.data / 16).astype(np.float32)
    labels = digits.target.astype(np.int64)
    train, test = split(labels, imbalance, np.random.default_rng([seed, 0]))
    return Problem(
        train_images=images[train],
        train_labels=labels[train],
        test_images=images[test],
        test_labels=labels[test],
        class_counts=cbcore.class_counts(labels[train], NUM_CLASSES),
        batches=batch_order(len(train), recipe, np.random.default_rng([seed, 1])),
        seed=seed,
    )


def split(labels: Integers, imbalance: float, rng: np.random.Generator) -> tuple[Integers, Integers]:
    """Return the indices of the training set and of the test set, which share no sample."""
    members = [rng.permutation(np.flatnonzero(labels == c))[:PER_CLASS] for c in range(NUM_CLASSES)]
    test, candidates = np.split(np.stack(members), [TEST_PER_CLASS], axis=1)
    candidates = candidates.reshape(-1)
    # The candidates of a class stand in random order, so the first ones are a random subset.
    return candidates[cbcore.long_tailed_indices(labels[candidates], imbalance)], test.reshape(-1)


def batch_order(num_samples: int, recipe: Recipe, rng: np.random.Generator) -> Integers:
    """Return the samples of each step, shape (epochs, steps, batch_size): a new permutation every epoch."""
    steps = num_samples // recipe.batch_size
    epochs = [rng.permutation(num_samples)[: steps * recipe.batch_size] for _ in range(recipe.epochs)]
    return np.reshape(epochs, (recipe.epochs, steps, recipe.batch_size)).astype(np.int64)


def initial_params(seed: int, loss: Loss) -> Params:
    """Return the initial weights of the network 64-64-10, matrices of shape (inputs, outputs).

    The losses of a seed share them, but for the bias of the last layer: sigmoid and focal start at the class prior.
    """
    rng = np.random.default_rng([seed, 2])
    bias = 0.0 if loss == "softmax" else cbcore.prior_bias(NUM_CLASSES)
    return {
        "hidden_weight": _normal(rng, NUM_PIXELS, NUM_HIDDEN, gain=2.0),  # He et al.: half of the units pass a relu
        "hidden_bias": np.zeros(NUM_HIDDEN, np.float32),
        "head_weight": _normal(rng, NUM_HIDDEN, NUM_CLASSES, gain=1.0),
        "head_bias": np.full(NUM_CLASSES, bias, np.float32),
    }


def step_weights(problem: Problem, weighting: Weighting, recipe: Recipe) -> Floats:
    """Return the class weights of every step, shape (steps, 10), for frameworks that take them as an array."""
    epochs = np.ones((recipe.epochs, NUM_CLASSES))
    start = {"plain": recipe.epochs, "class-balanced": 0, "deferred": recipe.late_epoch}[weighting]
    epochs[start:] = cbcore.class_weights(problem.class_counts, recipe.beta)
    return np.repeat(epochs, problem.batches.shape[1], axis=0).astype(np.float32)


def _normal(rng: np.random.Generator, fan_in: int, fan_out: int, gain: float) -> Floats:
    return rng.normal(0.0, np.sqrt(gain / fan_in), (fan_in, fan_out)).astype(np.float32)
