"""What a recipe says, built: network, loss, optimizer, and the run before its first step."""

import torch
from torch import nn

import cbcore_torch
from experiments.engine import Data, Run
from experiments.evaluate import Integers
from experiments.models import ResNet, cifar_resnet, init_, large_resnet
from experiments.processes import Processes
from experiments.recipe import CIFAR, Recipe
from experiments.seeds import Stream, generator
from experiments.sync_bn import synchronise_


def make_run(recipe: Recipe, data: Data, device: torch.device, processes: Processes, compiled: bool = False) -> Run:
    """Build everything as it is before the first step."""
    model = make_model(recipe, len(data.class_counts))
    if recipe.sync_bn and processes.size > 1:
        synchronise_(model)
    model.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    network = processes.distributed(model)
    if compiled:
        network.compile()
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
    groups = [{"params": list(model.parameters()), "weight_decay": recipe.weight_decay}]
    if recipe.loss != "softmax" or not recipe.decay_norms:
        groups = cbcore_torch.param_groups(
            model, head=model.head, weight_decay=recipe.weight_decay, decay_norms=recipe.decay_norms
        )
    return torch.optim.SGD(groups, lr=recipe.learning_rate, momentum=recipe.momentum, nesterov=recipe.nesterov)
