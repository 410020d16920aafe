"""What is trained and how: the same for every loss, weighting and framework."""

from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

import numpy as np
import numpy.typing as npt

Loss: TypeAlias = Literal["softmax", "sigmoid", "focal"]
Weighting: TypeAlias = Literal["plain", "class-balanced", "deferred"]

LOSSES: tuple[Loss, ...] = get_args(Loss)
WEIGHTINGS: tuple[Weighting, ...] = get_args(Weighting)


@dataclass(frozen=True)
class Recipe:
    """Hyper-parameters.

    Learning rate, momentum and weight decay are the paper's for long-tailed CIFAR. Epochs suffice for the *plain*
    losses to level off, on seeds that the demonstration does not use. Nothing was tuned on class-balanced results.

    Parameters
    ----------
    epochs : int
        Passes over the training set, >= 1.
    beta : float
        In [0, 1], for the class weights.
    gamma : float
        >= 0, for the focal loss.
    batch_size : int
        An epoch drops what does not fill a batch, so that all batches have one shape.
    learning_rate, momentum, weight_decay : float
        Of SGD: ``v = momentum * v + gradient + weight_decay * w``, then ``w -= learning_rate * v``. The bias of the
        last layer is not decayed.
    """

    epochs: int = 60
    beta: float = 0.999
    gamma: float = 0.5
    batch_size: int = 32
    learning_rate: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 2e-4

    @property
    def late_epoch(self) -> int:
        """The epoch at which the learning rate drops and deferred re-weighting begins: 160 of 200 in Cao et al."""
        return self.epochs * 4 // 5

    @property
    def learning_rates(self) -> npt.NDArray[np.float32]:
        """The learning rate of each epoch."""
        late = np.arange(self.epochs) >= self.late_epoch
        return np.where(late, 0.1 * self.learning_rate, self.learning_rate).astype(np.float32)
