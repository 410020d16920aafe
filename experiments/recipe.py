"""What is trained and how: the paper's knobs, and the learning rate as a function of the step."""

from dataclasses import asdict, dataclass
from typing import Any, Literal, TypeAlias, get_args

Loss: TypeAlias = Literal["softmax", "sigmoid", "focal"]
Precision: TypeAlias = Literal["float32", "bfloat16"]

LOSSES: tuple[Loss, ...] = get_args(Loss)
PRECISIONS: tuple[Precision, ...] = get_args(Precision)
CIFAR = ("cifar10", "cifar100")
LARGE = ("inat2017", "inat2018", "ilsvrc2012")


@dataclass(frozen=True)
class Recipe:
    """One cell of an experiment: everything that its numbers depend on, but for the data files.

    Parameters
    ----------
    dataset : str
        One of `CIFAR` or `LARGE`.
    loss : {"softmax", "sigmoid", "focal"}
        What is minimised.
    beta : float
        In [0, 1], of the class weights; 0 is the plain loss.
    gamma : float or None
        Of the focal loss, >= 0; None for the others.
    seed : int
        Of the long-tailed subset, the initial weights, the order of the samples and their augmentation.
    epochs : int
        Passes over the training set.
    imbalance, max_count : float, int or None
        CIFAR only: the factor, and how many samples class 0 has.
    depth, image_size : int
        Layers of the residual network; side of its input in pixels.
    batch_size : int
        Over all processes. An epoch drops what does not fill a batch.
    learning_rate, momentum, weight_decay : float
        Of SGD: ``v = momentum * v + gradient + weight_decay * w``, then ``w -= learning_rate * v``.
    nesterov, decay_norms : bool
        Nesterov's momentum; weight decay on the normalisation layers as well.
    warmup_epochs, milestones, decay : float, tuple of int, float
        Linear warm-up; after each milestone the learning rate is multiplied by `decay`.
    drw_epoch : int or None
        The first epoch with class weights (deferred re-weighting); None weights all epochs.
    precision : {"float32", "bfloat16"}
        Of the network under autocast. Head and loss are always float32.
    sync_bn : bool
        Batch statistics over all processes instead of each process's own.
    """

    dataset: str
    loss: Loss
    beta: float
    gamma: float | None
    seed: int
    epochs: int
    imbalance: float | None
    max_count: int | None
    depth: int
    image_size: int
    batch_size: int
    learning_rate: float
    momentum: float
    weight_decay: float
    nesterov: bool
    decay_norms: bool
    warmup_epochs: float
    milestones: tuple[int, ...]
    decay: float
    drw_epoch: int | None
    precision: Precision
    sync_bn: bool

    @property
    def cell(self) -> str:
        """The name of the result."""
        data = self.dataset if self.imbalance is None else f"{self.dataset}-lt{self.imbalance:.12g}"
        network = "" if self.dataset in CIFAR else f"_r{self.depth}-{self.image_size}"
        loss = self.loss if self.gamma is None else f"{self.loss}-g{self.gamma:.12g}"
        drw = "" if self.drw_epoch is None else "_drw"
        return f"{data}{network}_{loss}_beta{self.beta:.12g}{drw}_seed{self.seed}_e{self.epochs}"

    def as_json(self) -> dict[str, Any]:
        """Return the fields as JSON has them: a list for a tuple."""
        return {**asdict(self), "milestones": list(self.milestones)}


def defaults(dataset: str, loss: Loss, epochs: int | None, batch_size: int | None) -> dict[str, Any]:
    """Return the paper's knobs; the schedule is scaled to the epochs, the large-scale learning rate to the batch."""
    return _cifar(dataset, epochs) if dataset in CIFAR else _large(dataset, loss, epochs, batch_size)


def _cifar(dataset: str, epochs: int | None) -> dict[str, Any]:
    epochs = epochs or 200
    return {
        "epochs": epochs,
        "imbalance": 100.0,
        "max_count": 5000 if dataset == "cifar10" else 500,
        "depth": 32,
        "image_size": 32,
        "batch_size": 128,
        "learning_rate": 0.1,
        "momentum": 0.9,
        "weight_decay": 2e-4,
        "nesterov": False,
        "decay_norms": True,
        "warmup_epochs": 5 * epochs / 200,
        "milestones": scaled((160, 180), epochs, 200),
        "decay": 0.01,
    }


def _large(dataset: str, loss: Loss, epochs: int | None, batch_size: int | None) -> dict[str, Any]:
    epochs, batch_size = epochs or 90, batch_size or 1024
    # The focal loss is smaller than the others (§5.2 of the paper).
    scale = 1 if loss != "focal" else 2 if dataset == "ilsvrc2012" else 4
    return {
        "epochs": epochs,
        "imbalance": None,
        "max_count": None,
        "depth": 50,
        "image_size": 224,
        "batch_size": batch_size,
        "learning_rate": scale * 0.1 * batch_size / 256,
        "momentum": 0.9,
        "weight_decay": 1e-4,
        "nesterov": True,
        "decay_norms": False,
        "warmup_epochs": 5 * epochs / 90,
        "milestones": scaled((30, 60, 80), epochs, 90),
        "decay": 0.1,
    }


def scaled(milestones: tuple[int, ...], epochs: int, of: int) -> tuple[int, ...]:
    """Return the milestones of a schedule of `of` epochs for one of `epochs`."""
    return tuple(round(milestone * epochs / of) for milestone in milestones)


def learning_rate(recipe: Recipe, step: int, steps_per_epoch: int) -> float:
    """Return the learning rate of a step, counted from 0 over the whole training.

    The warm-up is linear in the step and begins at 0, as in the authors' code.
    """
    epoch = step / steps_per_epoch
    if epoch < recipe.warmup_epochs:
        return recipe.learning_rate * epoch / recipe.warmup_epochs
    passed = sum(epoch >= milestone for milestone in recipe.milestones)
    return float(recipe.learning_rate * recipe.decay**passed)
