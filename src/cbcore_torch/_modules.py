"""The three losses as modules: the class weights are a buffer, so they move and are saved with the model.

A buffer alone forgets: memory that is made anew (`to_empty`, a checkpoint loader) holds anything, and a schedule that
writes ones into it leaves no weights to come back to. So the module keeps the weights on the host as well, in NumPy's
float64, and the buffer can be written again at any time.
"""

from collections.abc import Callable
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor, nn

from cbcore import _checks as checks
from cbcore._arrays import Host, aligned, to_host
from cbcore._from_counts import FromCounts
from cbcore_torch import _functional as functional

_ANY_AXIS = -(1 << 31)  # its range is known with the logits
_HALF = (torch.float16, torch.bfloat16)
_ABSURD = 1e15  # neither a weight nor a count
_DEFERRED = ("deferred_weights", "deferred_epochs")  # in a state dict, while a schedule is there


class _ClassBalancedLoss(FromCounts, nn.Module):
    """What the three losses share: options, the buffer and how it is made."""

    _defaults: dict[str, Any] = {  # noqa: RUF012
        "dim": 1, "ignore_index": -100, "reduction": ..., "label_smoothing": 0.0, "unlabelled_weight": None,
    }  # fmt: skip
    _function: Callable[..., Tensor]
    class_weights: Tensor | None
    _given: Host | None  # what the constructor was given
    _made: Host | None  # the class weights, also while a schedule holds them back; None if nobody could read them
    _epochs: tuple[int, int] | None  # of a schedule: the current one, and the first that is weighted
    _counted: bool  # a schedule of this process counts the epochs
    _unknown: tuple[Tensor, int] | None  # a buffer, and its version, whose values nobody knows

    def __init__(
        self,
        class_weights: Any = None,
        *,
        dim: int = 1,
        ignore_index: int | None = -100,
        reduction: str = "mean",
        label_smoothing: float = 0.0,
        unlabelled_weight: float | None = None,
        **unknown: Any,
    ) -> None:
        super().__init__()
        checks.no_unknown_options(unknown, type(self).__name__)
        self.dim = checks.integer(dim, "dim", at_least=_ANY_AXIS)
        self.ignore_index = checks.ignored(ignore_index, "ignore_index")
        self.reduction = reduction
        self.label_smoothing = checks.loss_options(reduction, label_smoothing)
        self.unlabelled_weight = checks.unlabelled_weight(unlabelled_weight)
        buffer, self._made = (None, None) if class_weights is None else _read(class_weights)
        self._given, self._epochs, self._counted, self._unknown = self._made, None, False, None
        self.register_buffer("class_weights", buffer)

    def forward(self, input: Tensor, target: Tensor, sample_weight: Tensor | None = None) -> Tensor:
        """Return the loss of logits (N, C, ...) and targets, each sample weighted by its class."""
        weights = self._weights(input)
        return self._function(input, target, weights, sample_weight=sample_weight, **self._options())

    def reset_parameters(self) -> None:
        """Write the class weights into the buffer again, for loaders that leave memory as it comes.

        They are those that the loss was made with or that were loaded, and 1 where a schedule still holds them back.
        """
        if self.class_weights is not None:
            _check_known(self._made is not None)
            self._write()

    def extra_repr(self) -> str:
        """Describe the weights and every option that is not the default."""
        parts = []
        if self.class_weights is not None:
            parts.append(f"num_classes={len(self.class_weights)}")
            if not self.class_weights.is_meta:
                low, high = self.class_weights.aminmax()
                parts.append(f"class_weights={low:.4g}..{high:.4g}")
        if self._epochs is not None and self._made is not None and self._waits():
            parts.append(f"deferred_weights={self._made.min():.4g}..{self._made.max():.4g}")
        parts += [f"{k}={v!r}" for k, v in self._options().items() if v != self._defaults[k]]
        return ", ".join(parts)

    def __setattr__(self, name: str, value: Any) -> None:
        """Look at weights that are assigned, as at those that the constructor is given.

        Loaders assign memory as it comes for what a checkpoint lacks. If it holds no weights, the loss refuses to
        compute until it does; if it seems to, only the word of a loader that it has made the module ready tells.
        """
        if name == "class_weights" and isinstance(value, Tensor):
            checks.weights(functional.about(name, value.shape, value.dtype))
            host = _host(value)
            sound = host is None or bool(((host >= 0) & (host < _ABSURD)).all())
            if sound and host is not None:
                checks.weights_values(host)
            self._unknown = None if sound else (value, _version(value))
        super().__setattr__(name, value)
        if name == "_is_hf_initialized" and value and self._made is not None:  # of Hugging Face's from_pretrained
            weights = self.class_weights
            if weights is not None and not getattr(weights, name, False):  # on a buffer: it came from the checkpoint
                self._write()

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take the state of a copy or a pickle, those of older versions too; no schedule counts its epochs yet."""
        super().__setstate__(state)  # type: ignore[no-untyped-call]
        weights = self.class_weights
        for name, value in {"_made": None, "_epochs": None, "_unknown": None, "unlabelled_weight": None}.items():
            self.__dict__.setdefault(name, value)
        if self._made is None and weights is not None and not self._is_unknown(weights):
            self._made = _host(weights)
        self.__dict__.setdefault("_given", self._made)
        self._counted = False

    def __prepare_scriptable__(self) -> Self:
        """Say at once what `torch.jit.script` would fail at in its own words."""
        raise TypeError(
            f"{type(self).__name__} must be compiled with torch.compile or exported with torch.export, got "
            "torch.jit.script, which takes neither keyword arguments nor checks; script the model without its loss, "
            "or use torch.jit.trace"
        )

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Move the weights with the model, but keep their precision when the model is cast to half.

        The values are copied from what they were: `fn` may make memory that holds anything (`to_empty`).
        """
        before = self.class_weights
        if before is not None and before.is_meta and self._made is not None:
            before = self._buffers["class_weights"] = self._tensor(before.dtype, torch.device("cpu"))
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        after = self.class_weights
        if before is None or after is None or after is before:
            return self
        if after.is_meta:
            if self._epochs is None and (values := _host(before)) is not None:
                self._made = values
        elif before.is_meta or self._is_unknown(before):
            after.fill_(torch.nan)
            self._unknown = after, _version(after)
        elif after.dtype in _HALF:
            self._buffers["class_weights"] = before.to(after.device)
        elif type(after) is type(before):
            after.copy_(before)
        return self

    def _save_to_state_dict(self, destination: dict[str, Any], prefix: str, keep_vars: bool) -> None:
        """Save with the weights of the moment those that a schedule holds back, and its epoch."""
        super()._save_to_state_dict(destination, prefix, keep_vars)
        weights = self.class_weights
        if weights is not None and self._made is not None and self._epochs is not None:
            held = self._held()
            values = held, torch.tensor(self._epochs, dtype=torch.int64, device=held.device)
            destination.update(zip((prefix + name for name in _DEFERRED), values, strict=True))

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *others: Any) -> None:
        """Load, and keep what was loaded; a state without the schedule's part may be of an older version."""
        own = [prefix + name for name in _DEFERRED]
        deferred = [state_dict[name] for name in own if name in state_dict]
        rest = {name: value for name, value in state_dict.items() if name not in own}
        super()._load_from_state_dict(rest, prefix, *others)
        weights, loaded = self.class_weights, state_dict.get(prefix + "class_weights")
        if weights is None or loaded is None or loaded.shape != weights.shape:
            return
        if not (loaded.is_meta or weights.is_meta):
            self._unknown = None
        values = _host(loaded)
        if len(deferred) == len(own) and (held := _host(deferred[0])) is not None:
            epoch, start = deferred[1].tolist()
            self._schedule(held, epoch, start)
            self._counted = False
        elif values is None or self._epochs is None:
            self._made = values
        elif (values != 1).any():  # saved when the weights had set in
            self._schedule(values, max(self._epochs), self._epochs[1])
        else:  # saved before
            self._write()

    def _schedule(self, weights: Host, epoch: int, start_epoch: int) -> None:
        """Hold the weights back until an epoch: `DeferredReweighting` keeps its state here, where it is saved."""
        self._made, self._epochs = weights, (epoch, start_epoch)
        self._write()

    def _resume(self, start_epoch: int) -> None:
        """Begin a schedule, or go on with the one whose epochs were loaded and that nobody counts yet."""
        weights = self._made if self._epochs is not None else _host(self.class_weights)
        if self._epochs is None and weights is not None and (weights == 1).all() and self._given is not None:
            weights = self._given  # an early checkpoint of an older version: ones, with nothing beside them
        if weights is None:
            weights = self._made
        _check_known(weights is not None)
        epoch = 0 if self._epochs is None or self._counted else self._epochs[0]
        self._schedule(weights, epoch, start_epoch)  # type: ignore[arg-type]
        self._counted = True

    def _held(self) -> Tensor:
        """Return the class weights as a tensor, also while they are held back."""
        weights: Any = self.class_weights
        return self._tensor(weights.dtype, torch.device("cpu") if weights.is_meta else weights.device, waits=False)

    def _waits(self) -> bool:
        return self._epochs is not None and self._epochs[0] < self._epochs[1]

    def _write(self) -> None:
        """Write the weights of the moment in place, so that compiled and captured steps see them."""
        weights = self.class_weights
        if weights is not None and not weights.is_meta:
            with torch.no_grad():
                weights.copy_(self._tensor(weights.dtype, torch.device("cpu")))
            self._unknown = None

    def _tensor(self, dtype: torch.dtype, device: torch.device, *, waits: bool | None = None) -> Tensor:
        values = np.ones_like(self._made) if (self._waits() if waits is None else waits) else self._made
        return torch.tensor(values, dtype=dtype, device="cpu").to(device)

    def _is_unknown(self, weights: Tensor) -> bool:
        return self._unknown is not None and weights is self._unknown[0] and _version(weights) == self._unknown[1]

    def _weights(self, input: Any) -> Tensor | None:
        """Return the weights for logits; a criterion can be tried on shapes alone."""
        weights = self.class_weights
        if weights is None:
            return None
        _check_known(self._unknown is None or not self._is_unknown(weights))
        return weights.to("meta") if isinstance(input, Tensor) and input.is_meta else weights

    def _options(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self._defaults}


def _version(weights: Tensor) -> int:
    return 0 if weights.is_inference() else weights._version


def _check_known(known: bool) -> None:
    if not known:
        raise ValueError(
            "class_weights must have values, got memory that was never written (the criterion was made on the meta "
            "device from a tensor without values, or a loader assigned what it had no values for); load a state_dict, "
            "call criterion.reset_parameters(), or make the criterion with from_counts"
        )


def _read(class_weights: Any) -> tuple[Tensor, Host | None]:
    """Return class weights as a tensor of their own and on the host.

    Numbers from the host are float32, or float64 where that is the default dtype: a half-precision default, as loaders
    of half-precision models set, would leave the weights off by 2e-3 for good. They live on the default device; a
    default of meta means no memory yet, and costs them their values, for nothing: they are a few numbers.
    """
    if isinstance(class_weights, Tensor):
        checks.weights(functional.about("class_weights", class_weights.shape, class_weights.dtype))
        values = _host(class_weights)
        if values is not None:
            checks.weights_values(values)
        return class_weights.detach().clone(), values
    host = to_host(aligned(class_weights, "class_weights", fill=False), "class_weights")[0]
    checks.weights(checks.weights_on_host(host))
    host = host.astype(np.float64)
    dtype = torch.float64 if torch.get_default_dtype() == torch.float64 else torch.float32
    device = torch.empty(0).device  # the default one, whoever set it
    buffer = torch.tensor(host, dtype=dtype, device="cpu")
    return buffer if device.type == "meta" else buffer.to(device), host


def _host(weights: Any) -> Host | None:
    """Return the values of a tensor that has some."""
    if not isinstance(weights, Tensor) or type(weights) not in (Tensor, nn.Parameter) or weights.is_meta:
        return None
    return weights.detach().cpu().double().numpy().copy()


class SoftmaxCrossEntropy(_ClassBalancedLoss):
    """Class-balanced softmax cross-entropy (eq. 8 of the paper).

    Parameters
    ----------
    class_weights : array of floats, shape (C,), optional
        >= 0. A tensor keeps its dtype and device; anything else becomes float32 (float64 where that is torch's default
        dtype) on the default device. Saved in the ``state_dict``.
    dim, ignore_index, reduction, label_smoothing, unlabelled_weight
        As in `softmax_cross_entropy`.

    Examples
    --------
    >>> import torch
    >>> criterion = SoftmaxCrossEntropy.from_counts([5000, 500, 50], beta=0.999)
    >>> criterion
    SoftmaxCrossEntropy(num_classes=3, class_weights=0.1256..2.557, reduction='mean')
    >>> criterion(torch.zeros(2, 3), torch.tensor([0, 2]))
    tensor(1.4738)
    """

    _function = staticmethod(functional.softmax_cross_entropy)


class SigmoidCrossEntropy(_ClassBalancedLoss):
    """Class-balanced sigmoid cross-entropy, summed over classes (eq. 11 of the paper).

    Parameters as in `SoftmaxCrossEntropy`.

    Examples
    --------
    >>> import torch
    >>> criterion = SigmoidCrossEntropy.from_counts([5000, 500, 50], beta=0.999)
    >>> criterion(torch.zeros(2, 3), torch.tensor([0, 2]))
    tensor(2.7896)
    """

    _function = staticmethod(functional.sigmoid_cross_entropy)


class SigmoidFocalLoss(_ClassBalancedLoss):
    """Class-balanced focal loss, summed over classes (eq. 13 of the paper).

    Parameters
    ----------
    gamma : float
        Focusing parameter, >= 0; 0 is `SigmoidCrossEntropy`.
    class_weights, dim, ignore_index, reduction, label_smoothing, unlabelled_weight
        As in `SoftmaxCrossEntropy`.

    Examples
    --------
    >>> import torch
    >>> criterion = SigmoidFocalLoss.from_counts([5000, 500, 50], beta=0.999, gamma=1.0)
    >>> criterion(torch.zeros(2, 3), torch.tensor([0, 2]))
    tensor(1.3948)
    """

    _defaults = {"gamma": ..., **_ClassBalancedLoss._defaults}  # shown always  # noqa: RUF012
    _function = staticmethod(functional.sigmoid_focal_loss)

    def __init__(self, class_weights: Any = None, *, gamma: float = 0.5, **options: Any) -> None:
        super().__init__(class_weights, **options)
        self.gamma = checks.gamma(gamma)
