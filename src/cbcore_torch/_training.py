"""Training helpers: the initialisation and weight decay of the paper (§5.2), and deferred re-weighting."""

from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from cbcore import _checks as checks
from cbcore import prior_bias
from cbcore_torch._functional import no_tensor

_M = TypeVar("_M", bound=nn.Module)

_NORMS = (
    nn.modules.batchnorm._NormBase,  # batch and instance norms, synchronised and lazy ones too
    nn.LayerNorm,
    nn.GroupNorm,
    nn.RMSNorm,
)


def init_prior_bias_(head: _M) -> _M:
    """Set the bias of the last layer, in place, so that every sigmoid starts at the class prior 1 / C.

    Without it, sigmoid and focal losses start with a huge loss on the C - 1 wrong classes of every sample.

    Parameters
    ----------
    head : Module
        The last layer, with a ``bias`` of shape (C,): ``nn.Linear``, or a convolution for dense logits.

    Returns
    -------
    Module
        `head`.

    Raises
    ------
    ValueError
        If `head` has no bias.

    Examples
    --------
    >>> head = init_prior_bias_(torch.nn.Linear(64, 10))
    >>> round(head.bias[0].sigmoid().item(), 4)
    0.1
    """
    bias = _bias(head)
    with torch.no_grad():
        bias.fill_(prior_bias(bias.numel()))
    return head


def param_groups(
    model: nn.Module, *, head: nn.Module, weight_decay: float, decay_norms: bool = True
) -> list[dict[str, Any]]:
    """Split parameters for an optimizer so that the bias of the last layer is not decayed (§5.2 of the paper).

    Weight decay would pull the prior bias of `init_prior_bias_` back to zero.

    Parameters
    ----------
    model : Module
        Its parameters that require a gradient are split.
    head : Module
        The last layer of `model`, with a bias.
    weight_decay : float
        For all other parameters, >= 0.
    decay_norms : bool
        False takes weights and biases of normalisation layers out of weight decay as well, as the paper does for
        iNaturalist and ImageNet.

    Returns
    -------
    list of dict
        Two parameter groups for any ``torch.optim`` optimizer: decayed, and not.

    Raises
    ------
    ValueError
        If `head` has no bias or is not part of `model`.

    Examples
    --------
    >>> model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 3))
    >>> groups = param_groups(model, head=model[-1], weight_decay=2e-4)
    >>> optimizer = torch.optim.SGD(groups, lr=0.1, momentum=0.9)
    >>> [(len(group["params"]), group["weight_decay"]) for group in optimizer.param_groups]
    [(3, 0.0002), (1, 0.0)]
    """
    checks.number(weight_decay, "weight_decay", low=0)
    bias = _bias(head)
    if not any(parameter is bias for parameter in model.parameters()):
        raise ValueError(f"head must be a layer of model, got another {type(head).__name__}; pass e.g. head=model.fc")
    kept = {id(bias)}
    if not decay_norms:
        norms = (module for module in model.modules() if isinstance(module, _NORMS))
        kept.update(id(parameter) for norm in norms for parameter in norm.parameters(recurse=False))
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    return [
        {"params": [p for p in trained if id(p) not in kept], "weight_decay": weight_decay},
        {"params": [p for p in trained if id(p) in kept], "weight_decay": 0.0},
    ]


def _bias(head: nn.Module) -> Any:
    value = getattr(head, "bias", None)
    if value is None and any(True for _ in head.children()):
        raise ValueError(
            f"head must be the last layer alone, got a {type(head).__name__} of {len(list(head.children()))} modules; "
            "pass the layer that makes the logits, e.g. model[-1] or model.fc"
        )
    if value is None:
        raise ValueError(f"head must be a layer with a bias, got {head}; make it with bias=True")
    return value


class DeferredReweighting:
    """Train unweighted first and with the class weights from an epoch on (DRW, Cao et al., NeurIPS 2019).

    The state lives in the criterion, so the criterion's ``state_dict`` alone resumes it: the weights that are held
    back, and the epoch. ``criterion.class_weights`` holds the weights of the moment. It is overwritten in place, so
    compiled and captured steps see the change.

    Parameters
    ----------
    criterion : SoftmaxCrossEntropy, SigmoidCrossEntropy or SigmoidFocalLoss
        With the class weights to be deferred; they are set to 1 (beta = 0) until then. If it comes from a checkpoint or
        a copy with a schedule, its epochs are counted on; if another schedule of this program counts them, they begin
        again at 0, with the same weights.
    start_epoch : int
        The first epoch, counted from 0, that is weighted; >= 0.

    Raises
    ------
    TypeError, ValueError
        If `criterion` has no class weights or `start_epoch` is not an integer >= 0.

    Examples
    --------
    >>> import cbcore_torch
    >>> criterion = cbcore_torch.SoftmaxCrossEntropy.from_counts([90, 10], beta=0.9)
    >>> schedule = DeferredReweighting(criterion, start_epoch=2)
    >>> for epoch in range(4):
    ...     print(epoch, criterion.class_weights)
    ...     schedule.step()
    0 tensor([1., 1.])
    1 tensor([1., 1.])
    2 tensor([0.7889, 1.2111])
    3 tensor([0.7889, 1.2111])
    """

    def __init__(self, criterion: nn.Module, start_epoch: int) -> None:
        weights = getattr(criterion, "class_weights", None)
        if not isinstance(weights, Tensor):
            raise no_tensor(weights, "criterion.class_weights", "make the criterion with from_counts(...)")
        start_epoch = checks.integer(start_epoch, "start_epoch", at_least=0)
        if not hasattr(criterion, "_resume"):  # a compiled criterion hands on what it does not have
            raise TypeError(
                f"criterion must be a loss of cbcore_torch, got {type(criterion).__name__}; pass the "
                "SoftmaxCrossEntropy, SigmoidCrossEntropy or SigmoidFocalLoss itself"
            )
        loss: Any = criterion
        loss._resume(start_epoch)
        self._criterion = loss

    @property
    def epoch(self) -> int:
        """The current epoch, counted from 0."""
        return int(self._criterion._epochs[0])

    @property
    def start_epoch(self) -> int:
        """The first epoch that is weighted."""
        return int(self._criterion._epochs[1])

    def step(self) -> None:
        """End an epoch, as a learning-rate scheduler's ``step`` does."""
        self._criterion._schedule(self._criterion._made, self.epoch + 1, self.start_epoch)
        self._criterion._counted = True

    def state_dict(self) -> dict[str, Any]:
        """Return the epoch and the deferred weights, for a checkpoint that does not hold the criterion's."""
        return {"epoch": self.epoch, "start_epoch": self.start_epoch, "class_weights": self._criterion._held()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a checkpoint; the criterion gets the weights of that epoch, whether or not it was saved too."""
        checks.weights_shape(state["class_weights"].shape, len(self._criterion.class_weights))
        weights = state["class_weights"].detach().cpu().double().numpy().copy()
        self._criterion._schedule(weights, int(state["epoch"]), int(state["start_epoch"]))
