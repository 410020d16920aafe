"""Training: the state of a run, one epoch, and what is kept of it."""

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

import cbcore_torch
from experiments.evaluate import COLUMNS, Integers, sample_scores, summarise
from experiments.models import ResNet, cifar_resnet, init_, large_resnet
from experiments.processes import Processes
from experiments.recipe import CIFAR, Recipe, learning_rate
from experiments.seeds import Stream, generator, steps_per_epoch

TEST_BATCH = 500
CHECK_STEPS = 20  # reading the loss makes a GPU wait, so it is not read at every step


class Data(Protocol):
    """What the engine asks of a data set."""

    class_counts: Integers
    available_counts: Integers
    test_labels: Tensor
    digest: str

    @property
    def sizes(self) -> tuple[int, int]:
        """Training and test images."""

    def train_batches(
        self, recipe: Recipe, epoch: int, first: int, processes: Processes
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield this process's part of each batch of an epoch, from step `first` on."""

    def test_batches(self, rows: range, batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the test images of these rows in order."""


@dataclass
class Run:
    """The state of a training: `epoch` epochs and `step` steps of the next one are done."""

    recipe: Recipe
    data: Data
    processes: Processes
    device: torch.device
    model: ResNet
    network: nn.Module  # the model, perhaps compiled and distributed
    criterion: nn.Module
    optimizer: torch.optim.Optimizer
    deferred: cbcore_torch.DeferredReweighting | None
    epoch: int = 0
    step: int = 0
    loss_sum: float = 0.0
    seconds: float = 0.0
    history: list[dict[str, Any]] = field(default_factory=list)

    @property
    def steps(self) -> int:
        """Steps of an epoch."""
        return steps_per_epoch(self.recipe, self.data.sizes[0])

    def state(self) -> dict[str, Any]:
        """Return a checkpoint."""
        return {
            "recipe": self.recipe.as_json(),
            "digest": self.data.digest,
            **{name: getattr(self, name) for name in ("epoch", "step", "loss_sum", "seconds", "history")},
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "deferred": self.deferred and self.deferred.state_dict(),
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Go on from a checkpoint of the same recipe and data."""
        check_same(state["recipe"], self.recipe.as_json(), "--out")
        if state["digest"] != self.data.digest:
            raise ValueError("--out holds a run on other training images; give the same --data, or another --out")
        for name in ("epoch", "step", "loss_sum", "seconds", "history"):
            setattr(self, name, state[name])
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.deferred is not None:
            self.deferred.load_state_dict(state["deferred"])


def check_same(stored: dict[str, Any], wanted: dict[str, Any], where: str) -> None:
    """Check that a stored run is the one that is asked for."""
    other = [f"{name} {stored.get(name)} there, {value} here" for name, value in wanted.items() if stored.get(name) != value]
    if other:
        raise ValueError(f"{where} holds a run of another recipe ({'; '.join(other)}); choose another {where}")


def make_run(recipe: Recipe, data: Data, device: torch.device, processes: Processes, compiled: bool = False) -> Run:
    """Build everything as it is before the first step."""
    model = make_model(recipe, len(data.class_counts)).to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    network = torch.compile(model) if compiled else model
    criterion = make_criterion(recipe, data.class_counts).to(device)
    deferred = None
    if recipe.drw_epoch is not None:
        deferred = cbcore_torch.DeferredReweighting(criterion, recipe.drw_epoch)
    return Run(recipe, data, processes, device, model, network, criterion, make_optimizer(recipe, model), deferred)


def make_model(recipe: Recipe, num_classes: int) -> ResNet:
    """Return the network with its initial weights."""
    small = recipe.dataset in CIFAR
    model = (cifar_resnet if small else large_resnet)(recipe.depth, num_classes)
    seed = int(generator(recipe.seed, Stream.WEIGHTS, 0).integers(2**62))
    init_(model, torch.Generator().manual_seed(seed), large=not small)
    if recipe.loss != "softmax":
        cbcore_torch.init_prior_bias_(model.head)
    return model


def make_criterion(recipe: Recipe, class_counts: Integers) -> nn.Module:
    """Return the loss with its class weights, all 1 where beta is 0."""
    if recipe.loss == "focal":
        return cbcore_torch.SigmoidFocalLoss.from_counts(class_counts, beta=recipe.beta, gamma=recipe.gamma)
    kind = {"softmax": cbcore_torch.SoftmaxCrossEntropy, "sigmoid": cbcore_torch.SigmoidCrossEntropy}[recipe.loss]
    return kind.from_counts(class_counts, beta=recipe.beta)


def make_optimizer(recipe: Recipe, model: ResNet) -> torch.optim.Optimizer:
    """Return SGD; the head's bias is not decayed where it holds the class prior, nor for large images."""
    options = {"lr": recipe.learning_rate, "momentum": recipe.momentum, "nesterov": recipe.nesterov}
    if recipe.loss == "softmax" and recipe.decay_norms:
        return torch.optim.SGD(model.parameters(), weight_decay=recipe.weight_decay, **options)
    groups = cbcore_torch.param_groups(
        model, head=model.head, weight_decay=recipe.weight_decay, decay_norms=recipe.decay_norms
    )
    return torch.optim.SGD(groups, **options)


def train_epoch(run: Run, after_step: Callable[[Run], None]) -> float:
    """Finish the current epoch and return its mean loss."""
    run.network.train()
    total = torch.tensor(run.loss_sum, dtype=torch.float64, device=run.device)
    for images, labels in run.data.train_batches(run.recipe, run.epoch, run.step, run.processes):
        rate = learning_rate(run.recipe, run.epoch * run.steps + run.step, run.steps)
        total += train_step(run, images, labels, rate)
        run.step += 1
        if run.step % CHECK_STEPS == 0 or run.step == run.steps:
            run.loss_sum = finite(total.item(), run)
            after_step(run)
    return run.loss_sum / run.steps


def train_step(run: Run, images: Tensor, labels: Tensor, rate: float) -> Tensor:
    """Take one step and return its loss, the mean over the whole batch of all processes."""
    for group in run.optimizer.param_groups:
        group["lr"] = rate
    loss: Tensor = run.criterion(logits_of(run, run.network, images), labels)
    run.optimizer.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    run.optimizer.step()
    return run.processes.sum(loss.detach().double()) / run.processes.size


def logits_of(run: Run, network: nn.Module, images: Tensor) -> Tensor:
    """Return the logits, computed in the recipe's precision."""
    with torch.autocast(run.device.type, torch.bfloat16, enabled=run.recipe.precision == "bfloat16"):
        logits: Tensor = network(images)
    return logits


def finite(loss_sum: float, run: Run) -> float:
    """Return the loss, or stop before a broken network is kept."""
    if not math.isfinite(loss_sum):
        raise FloatingPointError(
            f"the loss became {loss_sum} within the {CHECK_STEPS} steps before step {run.step} of epoch {run.epoch + 1} "
            f"({run.recipe.cell}); try a smaller --learning-rate or a longer --warmup-epochs"
        )
    return loss_sum


def test(run: Run) -> dict[str, Any]:
    """Return the metrics of the test set; every process does its share of the images."""
    run.model.eval()
    weights = run.criterion.class_weights
    rows = run.processes.rows(run.data.sizes[1])
    scores = torch.zeros(run.data.sizes[1], len(COLUMNS), dtype=torch.float64, device=run.device)
    first = rows.start
    with torch.inference_mode():
        for images, labels in run.data.test_batches(rows, TEST_BATCH):
            part = sample_scores(logits_of(run, run.model, images), labels, weights)  # type: ignore[arg-type]
            scores[first : first + len(part)] = part
            first += len(part)
        scores = run.processes.sum(scores)
    labels_of_test = run.data.test_labels.cpu().numpy().astype(np.int64)
    return summarise(scores.cpu().numpy(), labels_of_test, run.data.class_counts, run.recipe.loss == "softmax")


def end_epoch(run: Run, train_loss: float, metrics: dict[str, Any] | None, started: float) -> None:
    """Write the epoch into the history and go to the next one."""
    last = (run.epoch + 1) * run.steps - 1
    run.seconds += time.monotonic() - started
    run.epoch, run.step, run.loss_sum = run.epoch + 1, 0, 0.0
    run.history.append(
        {
            "epoch": run.epoch,
            "learning_rate": learning_rate(run.recipe, last, run.steps),
            "train_loss": train_loss,
            "test_error": metrics and metrics["top1_error"],
            "seconds": round(run.seconds, 1),
        }
    )
    if run.deferred is not None:
        run.deferred.step()
