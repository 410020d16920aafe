"""PyTorch: our paths, and what its users run instead, eagerly as they do."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import Any, TypeAlias
from unittest.mock import patch

import torch
from torch import Tensor
from torch.nn import functional

import cbcore_torch
from benchmarks.formulas_torch import bce, kornia_focal, one_hot, torchvision_focal
from benchmarks.problem import BETA, SMOOTHING, Candidate, Data, MissingError, Outcome, Problem, data, optional
from cbcore._paths import numba_is_installed
from cbcore_torch._paths import numba, only, small

PATHS = ("numba", "closed form", "composite")
DEFAULT_PATHS = ("numba", "closed form")
ANOTHER = ", another loss"
Loss: TypeAlias = Callable[[Tensor], Any]


def candidates(problem: Problem, paths: tuple[str, ...], device: str = "cpu") -> tuple[list[Candidate], list[str]]:
    """Return ours, then the peers, and why others were left out; all share one tensor of logits."""
    batch = data(problem)
    logits = torch.from_numpy(batch.logits).to(device, getattr(torch, problem.dtype))
    logits.requires_grad_()
    labels, weights = (torch.from_numpy(a).to(device) for a in (batch.labels, batch.weights.astype("float32")))
    targets = _mixed(labels, batch, logits) if problem.targets == "soft" else labels
    finish = torch.cuda.synchronize if device == "cuda" else _nothing
    found, notes = [], []
    for path in paths if device == "cpu" else ("default",):
        try:
            with force(path):
                loss = _ours(problem, targets, weights)
                if path == "numba":
                    _refuse_if_passed_on(loss, logits)
        except MissingError as reason:
            notes.append(str(reason))
            continue
        step = partial(_step, loss, logits)
        found.append(Candidate("ours", "cbcore", path, step, _read, partial(force, path), finish))
    if problem.targets == "index":
        made = {name: partial(make, problem, labels, weights, batch) for name, make in PEERS[problem.family].items()}
    else:
        made = {name: partial(make, problem, targets) for name, make in DENSE_PEERS[problem.family].items()}
    for name, make_loss in made.items():
        try:
            step = partial(_step, make_loss(), logits)
        except MissingError as reason:
            notes.append(str(reason))
            continue
        found.append(Candidate("peer", name, "", step, _read, nullcontext, finish, not name.endswith(ANOTHER)))
    return found, notes


def _refuse_if_passed_on(loss: Loss, logits: Tensor) -> None:
    """Raise where the kernels leave a call to the closed form, which is timed under its own name."""
    with cbcore_torch.paths() as taken:
        loss(logits)
    if taken[0].path == "closed form":
        raise MissingError(f"path numba left out where {taken[0].refused['numba']}")


def _mixed(labels: Tensor, batch: Data, like: Tensor) -> Tensor:
    """Return dense targets as mixup makes them, of each row and the one before it."""
    shares = torch.from_numpy(batch.shares).to(like)[:, None]
    return one_hot(labels, like) * shares + one_hot(labels.roll(1), like) * (1 - shares)


def _nothing() -> None:
    return None


def _step(loss: Loss, logits: Tensor) -> tuple[Tensor, Tensor | None]:
    value = loss(logits)
    value.backward()
    gradient, logits.grad = logits.grad, None
    return value, gradient


def _read(output: tuple[Tensor, Tensor]) -> Outcome:
    return Outcome(output[0].item(), output[1].float().cpu().numpy())


def _ours(problem: Problem, targets: Tensor, weights: Tensor) -> Loss:
    losses: dict[str, Callable[..., Tensor]] = {
        "softmax": cbcore_torch.softmax_cross_entropy,
        "sigmoid": cbcore_torch.sigmoid_cross_entropy,
        "focal": partial(cbcore_torch.sigmoid_focal_loss, gamma=problem.gamma),
    }
    # Dense targets without class weights: F.cross_entropy multiplies the classes by them, where we multiply the row.
    weighted = {"class_weights": weights} if problem.targets == "index" else {}
    smoothing = SMOOTHING if problem.targets == "smoothed" else 0.0
    return partial(losses[problem.family], target=targets, label_smoothing=smoothing, **weighted)


@contextmanager
def force(path: str) -> Iterator[None]:
    """Take one of `PATHS`, whichever the library would choose."""
    if path == "numba" and not numba_is_installed():
        raise MissingError("path numba left out: numba is not installed")
    if path == "compiled":
        yield
        return
    without = patch.object(small, "numba_is_installed", lambda: path == "numba")
    with without, patch.object(numba, "numba_is_installed", lambda: path == "numba"):
        if path == "composite":
            with only(path):
                yield
        else:
            yield


# ---------------------------------------------------------------- peers: (problem, labels, weights, data) -> loss


def _cross_entropy(problem: Problem, labels: Tensor, weights: Tensor, _: Data) -> Loss:
    weight = weights.to(getattr(torch, problem.dtype))
    return lambda z: functional.cross_entropy(z, labels, weight, reduction="sum") / len(z)


def _bce(problem: Problem, labels: Tensor, weights: Tensor, _: Data) -> Loss:
    weight = weights.to(getattr(torch, problem.dtype))

    def loss(z: Tensor) -> Any:
        rows = weight[labels][:, None]
        return functional.binary_cross_entropy_with_logits(z, one_hot(labels, z), rows, reduction="sum") / len(z)

    return loss


def _bce_rows(_: Problem, labels: Tensor, weights: Tensor, __: Data) -> Loss:
    def loss(z: Tensor) -> Any:
        terms = functional.binary_cross_entropy_with_logits(z, one_hot(labels, z), reduction="none")
        return (terms.sum(1) * weights[labels]).mean()

    return loss


def _torchvision(problem: Problem, labels: Tensor, weights: Tensor, _: Data) -> Loss:
    def loss(z: Tensor) -> Any:
        terms = torchvision_focal(z, one_hot(labels, z), problem.gamma)
        return (terms.sum(1) * weights[labels]).mean()

    return loss


def _kornia(problem: Problem, labels: Tensor, weights: Tensor, _: Data) -> Loss:
    focal = optional("kornia.losses").binary_focal_loss_with_logits

    def loss(z: Tensor) -> Any:
        terms = focal(z, one_hot(labels, z), alpha=None, gamma=problem.gamma)
        return (terms.sum(1) * weights[labels]).mean()

    return loss


def _balanced_loss(problem: Problem, labels: Tensor, _: Tensor, batch: Data) -> Loss:
    kind = {"softmax": "cross_entropy", "sigmoid": "binary_cross_entropy", "focal": "focal_loss"}[problem.family]
    module = optional("balanced_loss").Loss(
        loss_type=kind, beta=BETA, fl_gamma=problem.gamma, samples_per_class=batch.counts, class_balanced=True
    )
    scale = problem.classes if kind == "binary_cross_entropy" else 1  # it divides by the classes, the paper does not
    return lambda z: module(z, labels) * scale


def _cbloss(problem: Problem, labels: Tensor, _: Tensor, batch: Data) -> Loss:
    inner = torch.nn.CrossEntropyLoss(reduction="none")
    module = optional("cbloss.loss").ClassBalancedLoss(batch.counts, BETA, problem.classes, inner)
    return lambda z: module(z, labels)


PEERS: dict[str, dict[str, Callable[[Problem, Tensor, Tensor, Data], Loss]]] = {
    "softmax": {"F.cross_entropy(weight)": _cross_entropy, "balanced-loss": _balanced_loss, "cbloss": _cbloss},
    "sigmoid": {"BCE(weight=rows)": _bce, "BCE * row weight": _bce_rows, "balanced-loss * C": _balanced_loss},
    "focal": {"torchvision's formula": _torchvision, "kornia": _kornia, "balanced-loss": _balanced_loss},
}


# ---------------------------------------------------------------- peers of dense targets: (problem, targets) -> loss


def _dense_cross_entropy(problem: Problem, targets: Tensor) -> Loss:
    return partial(
        functional.cross_entropy, target=targets, label_smoothing=SMOOTHING if problem.targets == "smoothed" else 0.0
    )


def _dense_terms(term: Callable[..., Tensor], problem: Problem, targets: Tensor) -> Loss:
    """Return the loss of terms of each class; soft targets are given, smoothed labels are made dense in each step."""
    power = {"gamma": problem.gamma} if problem.gamma else {}

    def loss(z: Tensor) -> Tensor:
        dense = one_hot(targets, z, SMOOTHING) if problem.targets == "smoothed" else targets
        return term(z, dense, **power).sum() / len(z)

    return loss


DENSE_PEERS: dict[str, dict[str, Callable[[Problem, Tensor], Loss]]] = {
    "softmax": {"F.cross_entropy": _dense_cross_entropy},
    "sigmoid": {"BCE": partial(_dense_terms, bce)},
    "focal": {
        f"torchvision's formula{ANOTHER}": partial(_dense_terms, torchvision_focal),
        "kornia's formula": partial(_dense_terms, kornia_focal),
    },
}
