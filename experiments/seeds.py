"""All randomness comes from (seed, purpose, epoch), so a run that is resumed draws what it would have drawn."""

from enum import IntEnum

import numpy as np
import numpy.typing as npt

from experiments.recipe import Recipe


class Stream(IntEnum):
    """What the numbers are for."""

    WEIGHTS = 0
    ORDER = 1
    AUGMENTATION = 2


def generator(seed: int, stream: Stream, epoch: int, *more: int) -> np.random.Generator:
    """Return a generator of its own for each purpose and epoch."""
    return np.random.default_rng([seed, stream, epoch, *more])


def epoch_order(recipe: Recipe, epoch: int, num_samples: int) -> npt.NDArray[np.int64]:
    """Return the samples of each step, shape (steps, batch_size): a new permutation every epoch."""
    steps = steps_per_epoch(recipe, num_samples)
    order = generator(recipe.seed, Stream.ORDER, epoch).permutation(num_samples)
    return order[: steps * recipe.batch_size].reshape(steps, recipe.batch_size)


def steps_per_epoch(recipe: Recipe, num_samples: int) -> int:
    """Return how many full batches the training set has."""
    if num_samples < recipe.batch_size:
        raise ValueError(
            f"--batch-size must be at most the number of training images, {num_samples}, got {recipe.batch_size}"
        )
    return num_samples // recipe.batch_size
