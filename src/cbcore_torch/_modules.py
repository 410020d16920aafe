"""The three losses as modules: the class weights are a buffer, so they move and are saved with the model."""

from collections.abc import Callable
from typing import Any, Self

import torch
from torch import Tensor, nn

from cbcore import _checks as checks
from cbcore import class_weights as make_class_weights
from cbcore._weights import Empty, Normalize
from cbcore_torch import _functional as functional


class _ClassBalancedLoss(nn.Module):
    """What the three losses share: options, the buffer and how it is made."""

    class_weights: Tensor | None

    def __init__(
        self,
        class_weights: Any = None,
        *,
        dim: int = 1,
        ignore_index: int = -100,
        reduction: str = "mean",
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__()
        checks.loss_options(reduction, label_smoothing)
        if class_weights is not None:
            if not isinstance(class_weights, Tensor):
                class_weights = torch.as_tensor(class_weights, dtype=torch.get_default_dtype())
            checks.floating_weights(class_weights.is_floating_point(), class_weights.dtype)
            checks.weights_vector(class_weights.shape)
            class_weights = class_weights.detach().clone()
        self.register_buffer("class_weights", class_weights)
        self.dim = dim
        self.ignore_index = ignore_index
        self.reduction = reduction
        self.label_smoothing = label_smoothing

    @classmethod
    def from_counts(
        cls,
        class_counts: Any,
        beta: Any = None,
        *,
        num_prototypes: Any = None,
        normalize: Normalize = "classes",
        empty: Empty = "error",
        **options: Any,
    ) -> Self:
        """Make the loss from the class counts of the whole training set.

        Parameters
        ----------
        class_counts, beta, num_prototypes, normalize, empty
            As in `cbcore.class_weights`; beta is 0.999 if neither it nor `num_prototypes` is given.
        **options
            Passed to the class.
        """
        weights = make_class_weights(
            class_counts, beta, num_prototypes=num_prototypes, normalize=normalize, empty=empty
        )
        return cls(torch.as_tensor(weights, dtype=torch.get_default_dtype()), **options)

    def extra_repr(self) -> str:
        """Describe the weights and every option that is not the default."""
        parts = []
        if self.class_weights is not None:
            parts.append(f"num_classes={len(self.class_weights)}")
            if not self.class_weights.is_meta:
                low, high = self.class_weights.aminmax()
                parts.append(f"class_weights={low:.4g}..{high:.4g}")
        defaults = {"gamma": None, "dim": 1, "ignore_index": -100, "reduction": None, "label_smoothing": 0.0}
        parts += [f"{k}={v!r}" for k, d in defaults.items() if (v := getattr(self, k, d)) != d]
        return ", ".join(parts)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Move the weights with the model, but keep their precision when the model is cast to half."""
        weights = self.class_weights
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        moved = self.class_weights
        if weights is not None and moved is not None and moved.dtype in (torch.float16, torch.bfloat16):
            self.class_weights = weights.to(moved.device)
        return self

    def _options(self) -> dict[str, Any]:
        names = ("dim", "ignore_index", "reduction", "label_smoothing")
        return {name: getattr(self, name) for name in names}


class SoftmaxCrossEntropy(_ClassBalancedLoss):
    """Class-balanced softmax cross-entropy (eq. 8 of the paper).

    Parameters
    ----------
    class_weights : array of floats, shape (C,), optional
        A tensor keeps its dtype; anything else takes torch's default dtype. Saved in the ``state_dict``.
    dim, ignore_index, reduction, label_smoothing
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

    def forward(self, input: Tensor, target: Tensor, sample_weight: Tensor | None = None) -> Tensor:
        """Return the loss of logits (N, C, ...) and targets, each sample weighted by its class."""
        return functional.softmax_cross_entropy(
            input, target, self.class_weights, sample_weight=sample_weight, **self._options()
        )


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

    def forward(self, input: Tensor, target: Tensor, sample_weight: Tensor | None = None) -> Tensor:
        """Return the loss of logits (N, C, ...) and targets, each sample weighted by its class."""
        return functional.sigmoid_cross_entropy(
            input, target, self.class_weights, sample_weight=sample_weight, **self._options()
        )


class SigmoidFocalLoss(_ClassBalancedLoss):
    """Class-balanced focal loss, summed over classes (eq. 13 of the paper).

    Parameters
    ----------
    gamma : float
        Focusing parameter, >= 0; 0 is `SigmoidCrossEntropy`.
    class_weights, dim, ignore_index, reduction, label_smoothing
        As in `SoftmaxCrossEntropy`.

    Examples
    --------
    >>> import torch
    >>> criterion = SigmoidFocalLoss.from_counts([5000, 500, 50], beta=0.999, gamma=1.0)
    >>> criterion(torch.zeros(2, 3), torch.tensor([0, 2]))
    tensor(1.3948)
    """

    def __init__(self, class_weights: Any = None, *, gamma: float = 0.5, **options: Any) -> None:
        super().__init__(class_weights, **options)
        checks.gamma(gamma)
        self.gamma = gamma

    def forward(self, input: Tensor, target: Tensor, sample_weight: Tensor | None = None) -> Tensor:
        """Return the loss of logits (N, C, ...) and targets, each sample weighted by its class."""
        return functional.sigmoid_focal_loss(
            input, target, self.class_weights, gamma=self.gamma, sample_weight=sample_weight, **self._options()
        )
