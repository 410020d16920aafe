"""Training: the state of a run, an epoch of it, and its test."""

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

import cbcore_torch
from experiments.evaluate import COLUMNS, Integers, sample_scores, summarise
from experiments.models import ResNet
from experiments.processes import Processes
from experiments.recipe import Recipe, learning_rate
from experiments.seeds import steps_per_epoch

TEST_BATCH = 500
CHECK_STEPS = 20  # reading the loss makes a GPU wait, so it is not read at every step


class Data(Protocol):
    """What the engine asks of a data set."""

    @property
    def class_counts(self) -> Integers:
        """Training images per class."""

    @property
    def available_counts(self) -> Integers:
        """Likewise, before the long tail is cut."""

    @property
    def test_labels(self) -> Tensor:
        """The classes of the test images."""

    @property
    def digest(self) -> str:
        """A hash of the training set."""

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
    history: list[dict[str, Any]] = field(default_factory=list)
    seconds_before: float = 0.0  # of the processes that this one goes on from
    started: float = field(default_factory=time.monotonic)

    @property
    def steps(self) -> int:
        """Steps of an epoch."""
        return steps_per_epoch(self.recipe, self.data.sizes[0])

    @property
    def seconds(self) -> float:
        """Time spent so far."""
        return self.seconds_before + time.monotonic() - self.started

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
        for name in ("epoch", "step", "loss_sum", "history"):
            setattr(self, name, state[name])
        self.seconds_before, self.started = state["seconds"], time.monotonic()
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.deferred is not None:
            self.deferred.load_state_dict(state["deferred"])


def check_same(stored: dict[str, Any], wanted: dict[str, Any], where: str) -> None:
    """Check that a stored run is the one that is asked for."""
    other = [f"{k} {stored.get(k)} there, {value} here" for k, value in wanted.items() if stored.get(k) != value]
    if other:
        raise ValueError(f"{where} holds a run of another recipe ({'; '.join(other)}); choose another {where}")


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
            f"the loss of {run.recipe.cell} must stay finite, got {loss_sum} within {CHECK_STEPS} steps before "
            f"step {run.step} of epoch {run.epoch + 1}; try a smaller --learning-rate or a longer --warmup-epochs"
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


def test_logits(run: Run) -> npt.NDArray[np.float16]:
    """Return the logits of the test set, (N, C): what any choice that is made after training starts from."""
    run.model.eval()
    rows = run.processes.rows(run.data.sizes[1])
    logits = torch.zeros(run.data.sizes[1], len(run.data.class_counts), device=run.device)
    first = rows.start
    with torch.inference_mode():
        for images, _ in run.data.test_batches(rows, TEST_BATCH):
            part = logits_of(run, run.model, images).float()
            logits[first : first + len(part)] = part
            first += len(part)
        logits = run.processes.sum(logits)
    return logits.cpu().numpy().astype(np.float16)


def end_epoch(run: Run, train_loss: float, metrics: dict[str, Any] | None) -> None:
    """Write the epoch into the history and go to the next one."""
    last = (run.epoch + 1) * run.steps - 1
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
