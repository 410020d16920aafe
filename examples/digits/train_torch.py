"""The demonstration's network in PyTorch."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

import cbcore_torch
from examples.digits.data import NUM_CLASSES, NUM_HIDDEN, NUM_PIXELS, Floats, Params, Problem, initial_params
from examples.digits.recipe import Loss, Recipe, Weighting

Criterion = cbcore_torch.SoftmaxCrossEntropy | cbcore_torch.SigmoidCrossEntropy | cbcore_torch.SigmoidFocalLoss


def train(problem: Problem, loss: Loss, weighting: Weighting, recipe: Recipe) -> tuple[Floats, list[float]]:
    """Train one network.

    Parameters
    ----------
    problem : Problem
        The data, in the order of the batches.
    loss : {"softmax", "sigmoid", "focal"}
        What is minimised.
    weighting : {"plain", "class-balanced", "deferred"}
        Whether its samples are weighted: never, always, or late in training.
    recipe : Recipe
        Hyper-parameters.

    Returns
    -------
    logits : array of float32, shape (num_test_samples, 10)
        Of the test images, after the last step.
    losses : list of float
        Of every step's batch, before its update.
    """
    with _one_thread():
        model = make_model(initial_params(problem.seed, loss))
        losses = _fit(model, make_criterion(loss, weighting, problem, recipe), problem, weighting, recipe)
        with torch.no_grad():
            logits: Floats = model(torch.tensor(problem.test_images)).numpy()
    return logits, losses


def make_criterion(loss: Loss, weighting: Weighting, problem: Problem, recipe: Recipe) -> Criterion:
    """Return the loss, with class weights unless it is plain."""
    options: dict[str, Any] = {"gamma": recipe.gamma} if loss == "focal" else {}
    kinds: dict[Loss, type[Criterion]] = {
        "softmax": cbcore_torch.SoftmaxCrossEntropy,
        "sigmoid": cbcore_torch.SigmoidCrossEntropy,
        "focal": cbcore_torch.SigmoidFocalLoss,
    }
    if weighting == "plain":
        return kinds[loss](**options)
    return kinds[loss].from_counts(problem.class_counts, beta=recipe.beta, **options)


def make_model(params: Params) -> nn.Sequential:
    """Return the network with copies of the given weights."""
    with torch.device("meta"):  # no draw from torch's generator, which would change the caller's random numbers
        model = nn.Sequential(nn.Linear(NUM_PIXELS, NUM_HIDDEN), nn.ReLU(), nn.Linear(NUM_HIDDEN, NUM_CLASSES))
    names = {"0.weight": "hidden_weight", "0.bias": "hidden_bias", "2.weight": "head_weight", "2.bias": "head_bias"}
    state = {name: torch.tensor(params[ours].T.copy()) for name, ours in names.items()}  # torch keeps (out, in)
    model.load_state_dict(state, assign=True)
    return model


def _fit(
    model: nn.Sequential, criterion: Criterion, problem: Problem, weighting: Weighting, recipe: Recipe
) -> list[float]:
    groups = cbcore_torch.param_groups(model, head=model[-1], weight_decay=recipe.weight_decay)
    optimizer = torch.optim.SGD(groups, lr=recipe.learning_rate, momentum=recipe.momentum)
    deferred = weighting == "deferred"
    schedule = cbcore_torch.DeferredReweighting(criterion, recipe.late_epoch) if deferred else None
    images, labels = torch.tensor(problem.train_images), torch.tensor(problem.train_labels)
    losses: list[Tensor] = []
    for learning_rate, batches in zip(recipe.learning_rates.tolist(), torch.tensor(problem.batches), strict=True):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate
        losses += [_step(model, criterion, optimizer, images[batch], labels[batch]) for batch in batches]
        if schedule is not None:
            schedule.step()
    return [float(loss) for loss in losses]


def _step(
    model: nn.Module, criterion: nn.Module, optimizer: torch.optim.Optimizer, images: Tensor, labels: Tensor
) -> Tensor:
    loss: Tensor = criterion(model(images), labels)
    optimizer.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    optimizer.step()
    return loss.detach()


@contextmanager
def _one_thread() -> Iterator[None]:
    """Compute on one thread: a network this small is slower on several, and sums in another order."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
