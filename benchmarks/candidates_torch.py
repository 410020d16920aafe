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
from benchmarks.formulas_torch import one_hot, torchvision_focal
from benchmarks.problem import BETA, Candidate, Data, MissingError, Outcome, Problem, data, optional
from cbcore._fused import numba_is_installed
from cbcore_torch._paths import numba, only, small

PATHS = ("numba", "closed form", "composite")
DEFAULT_PATHS = ("numba", "closed form")
Loss: TypeAlias = Callable[[Tensor], Any]


def candidates(problem: Problem, paths: tuple[str, ...], device: str = "cpu") -> tuple[list[Candidate], list[str]]:
    """Return ours, then the peers, and why others were left out; all share one tensor of logits."""
    batch = data(problem)
    dtype = {"float32": torch.float32, "bfloat16": torch.bfloat16}[problem.dtype]
    logits = torch.from_numpy(batch.logits).to(device, dtype)
    logits.requires_grad_()
    labels, weights = (torch.from_numpy(a).to(device) for a in (batch.labels, batch.weights.astype("float32")))
    finish = torch.cuda.synchronize if device == "cuda" else _nothing
    found, notes = [], []
    for path in paths if device == "cpu" else ("default",):
        try:
            with force(path):
                loss: Loss = partial(_ours(problem), target=labels, class_weights=weights)
        except MissingError as reason:
            notes.append(str(reason))
            continue
        step = partial(_step, loss, logits)
        found.append(Candidate("ours", "cbcore", path, step, _read, partial(force, path), finish))
    for name, make in PEERS[problem.family].items():
        try:
            loss = make(problem, labels, weights, batch)
        except MissingError as reason:
            notes.append(str(reason))
            continue
        found.append(Candidate("peer", name, "", partial(_step, loss, logits), _read, nullcontext, finish))
    return found, notes


def _nothing() -> None:
    return None


def _step(loss: Loss, logits: Tensor) -> tuple[Tensor, Tensor | None]:
    value = loss(logits)
    value.backward()
    gradient, logits.grad = logits.grad, None
    return value, gradient


def _read(output: tuple[Tensor, Tensor]) -> Outcome:
    return Outcome(output[0].item(), output[1].float().cpu().numpy())


def _ours(problem: Problem) -> Callable[..., Tensor]:
    if problem.family == "focal":
        return partial(cbcore_torch.sigmoid_focal_loss, gamma=problem.gamma)
    losses = {"softmax": cbcore_torch.softmax_cross_entropy, "sigmoid": cbcore_torch.sigmoid_cross_entropy}
    return losses[problem.family]


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
