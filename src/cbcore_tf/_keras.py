"""The three losses as Keras losses, for ``Model.compile``, and class weights for ``Model.fit(class_weight=...)``."""

from typing import Any, TypeAlias

import keras
import numpy as np
import tensorflow as tf

from cbcore import _checks as checks
from cbcore._arrays import unmasked
from cbcore._from_counts import FromCounts
from cbcore._kinds import Kind, OneVsAll, Softmax
from cbcore_tf import _arguments as arguments
from cbcore_tf import _functional as functional
from cbcore_tf import _shapes as shapes

Tensor: TypeAlias = Any
_MOST_AXES = 254  # of a TensorFlow shape
_REDUCTIONS = ("sum_over_batch_size", "mean", "sum", "mean_with_sample_weight", "none", None)
register = keras.saving.register_keras_serializable(package="cbcore")


class _ClassBalancedLoss(FromCounts, keras.losses.Loss):  # type: ignore[misc]  # Keras is untyped
    """What the three losses share; Keras applies masks, sample weights and the reduction to what `call` returns.

    Keras casts labels and logits to the dtype of the loss, and bfloat16 turns label 257 into 256: here it is float32
    or float64, whatever the policy of the model.
    """

    _defaults: dict[str, Any] = {"axis": -1, "ignore_class": None, "label_smoothing": 0.0, "unlabelled_weight": None}  # noqa: RUF012
    _warned = False

    def __init__(
        self,
        class_weights: Any = None,
        *,
        axis: int = -1,
        ignore_class: int | None = None,
        label_smoothing: float = 0.0,
        unlabelled_weight: float | None = None,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = None,
        dtype: Any = None,
        **unknown: Any,
    ) -> None:
        checks.no_unknown_options(unknown, type(self).__name__)
        backend = keras.config.backend()
        if backend != "tensorflow":
            raise RuntimeError(
                f"Keras must run on TensorFlow for the losses of cbcore_tf, got the backend {backend!r}; set "
                "KERAS_BACKEND=tensorflow, or call the functions of cbcore_jax or cbcore_torch"
            )
        checks.choice(reduction, "reduction", _REDUCTIONS)
        super().__init__(name=name, reduction=reduction, dtype=_dtype(dtype))
        if class_weights is not None:
            with tf.init_scope():
                class_weights = tf.constant(arguments.fixed_weights(class_weights), self.dtype)
        self.class_weights = class_weights
        self.axis = checks.integer(arguments.plain(axis), "axis", at_least=-_MOST_AXES)
        self.ignore_class = checks.ignored(arguments.plain(ignore_class), "ignore_class")
        self.label_smoothing = checks.number(arguments.plain(label_smoothing), "label_smoothing", low=0, high=1)
        self.unlabelled_weight = checks.unlabelled_weight(arguments.plain(unlabelled_weight))

    def __call__(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> Tensor:
        """Return the reduced loss. Samples that the model masks are left out, whatever they hold."""
        if not self._warned:
            self._warned = arguments.warn_of_probabilities(y_pred)
        y_pred = tf.convert_to_tensor(unmasked(y_pred, "y_pred"))
        mask = getattr(y_pred, "_keras_mask", None)
        axis = shapes.class_axis(y_true, y_pred, self.axis)
        y_true = shapes.targets(y_true, y_pred, axis, of_keras=True)
        if sample_weight is not None:
            sample_weight = shapes.keras_sample_weight(sample_weight, y_pred, axis)
        if mask is not None:
            # Keras multiplies masked samples by 0, which leaves NaN (a label out of range, say) a NaN.
            mask = shapes.per_sample(mask, y_pred, axis, name="the mask of y_pred")
            rows = tf.expand_dims(mask, axis)
            y_true = tf.where(rows if y_true.dtype.is_floating else mask, y_true, tf.zeros_like(y_true))
            y_pred = tf.where(rows, y_pred, tf.zeros_like(y_pred))
            y_pred._keras_mask = mask
        return super().__call__(y_true, y_pred, sample_weight)

    def call(self, y_true: Any, y_pred: Any) -> Tensor:
        """Return the weighted loss of each sample, and with `ignore_class` a Keras mask on it."""
        y_true = shapes.targets(y_true, y_pred, shapes.class_axis(y_true, y_pred, self.axis), of_keras=True)
        losses = functional.loss(
            self._kind(), y_true, y_pred, self.class_weights,
            self.axis, self.ignore_class, None, "none", self.label_smoothing, self.unlabelled_weight, warn=False,
        )  # fmt: skip
        if self.ignore_class is not None and y_true.dtype.is_integer:
            losses._keras_mask = y_true != self.ignore_class
        return losses

    def get_config(self) -> dict[str, Any]:
        """Return what the constructor takes, in kinds that JSON has."""
        weights = None if self.class_weights is None else self.class_weights.numpy().tolist()
        return {**super().get_config(), "dtype": self.dtype, "class_weights": weights, **self._options()}

    def __repr__(self) -> str:
        """Show the weights and every option that is not the default."""
        parts = []
        if self.class_weights is not None:
            weights = self.class_weights.numpy()
            parts = [f"num_classes={weights.size}"]
            if weights.size:
                parts.append(f"class_weights={weights.min():.4g}..{weights.max():.4g}")
        options = {**self._options(), "reduction": self.reduction, "dtype": self.dtype}
        defaults = {**self._defaults, "dtype": "float32"}
        parts += [f"{name}={value!r}" for name, value in options.items() if value != defaults.get(name, ...)]
        return f"{type(self).__name__}({', '.join(parts)})"

    def __setattr__(self, name: str, value: Any) -> None:
        """Refuse to change what graphs that are made already would keep."""
        if name in vars(self) and (name == "class_weights" or name in self._defaults):
            raise AttributeError(
                f"{name} must stay what {type(self).__name__} was made with, got another value: a compiled step would "
                "keep the old one; make another loss and call model.compile(optimizer=model.optimizer, loss=...), "
                "which keeps the optimizer's state"
            )
        super().__setattr__(name, value)

    def _options(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self._defaults}

    def _kind(self) -> Kind:
        raise NotImplementedError


@register
class SoftmaxCrossEntropy(_ClassBalancedLoss):
    """Class-balanced softmax cross-entropy of logits (eq. 8 of the paper), for ``Model.compile(loss=...)``.

    Labels in the shape of the logits are one-hot, multi-hot or soft; labels without the class axis, (N,), or with 1
    there or at the end, (N, 1), are class indices; their dtype plays no part. A sample whose index is neither in
    [0, C) nor `ignore_class` gets NaN.

    Parameters
    ----------
    class_weights : array of floats, shape (C,), or dict of every class index, optional
        Saved with the model. They and the options stay as they are made: a compiled step would keep the old ones.
    axis, ignore_class, label_smoothing, unlabelled_weight
        As in `softmax_cross_entropy`.
    reduction : {"sum_over_batch_size", "mean", "sum", "mean_with_sample_weight", "none", None}
        Keras' names. The first two divide by the number of samples that are neither masked nor ignored, the "mean" of
        `softmax_cross_entropy`; "mean_with_sample_weight" divides by their summed `sample_weight`, in which class
        weights play no part. With no valid sample all give 0.
    name : str, optional
    dtype : {"float32", "float64"}, optional
        Of the computation, whatever the policy of the model: float32, or float64 where Keras' ``floatx`` is that. Keras
        casts labels to it too: float32 holds class indices up to 2**24.

    Raises
    ------
    TypeError, ValueError
        If an argument is of the wrong kind or out of range; later, if static shapes do not fit.
    RuntimeError
        If Keras runs on another backend than TensorFlow.

    Examples
    --------
    >>> loss = SoftmaxCrossEntropy.from_counts([5000, 500, 50], beta=0.999)
    >>> loss
    SoftmaxCrossEntropy(num_classes=3, class_weights=0.1256..2.557, reduction='sum_over_batch_size')
    >>> round(float(loss([0, 2], [[0.0, 0.0, 0.0], [0.0, 0.0, 0.0]])), 4)
    1.4738
    """

    def _kind(self) -> Kind:
        return Softmax()


@register
class SigmoidCrossEntropy(_ClassBalancedLoss):
    """Class-balanced sigmoid cross-entropy of logits, summed over classes (eq. 11), for ``Model.compile(loss=...)``.

    Labels, parameters and errors as in `SoftmaxCrossEntropy`.

    Examples
    --------
    >>> loss = SigmoidCrossEntropy.from_counts([5000, 500, 50], beta=0.999)
    >>> round(float(loss([0, 2], [[0.0, 0.0, 0.0], [0.0, 0.0, 0.0]])), 4)
    2.7896
    """

    def _kind(self) -> Kind:
        return OneVsAll()


@register
class SigmoidFocalLoss(_ClassBalancedLoss):
    """Class-balanced focal loss of logits, summed over classes (eq. 13), for ``Model.compile(loss=...)``.

    Parameters
    ----------
    gamma : float
        Focusing parameter, >= 0; 0 is `SigmoidCrossEntropy`.
    class_weights, axis, ignore_class, label_smoothing, unlabelled_weight, reduction, name, dtype
        As in `SoftmaxCrossEntropy`, as labels and errors are.

    Examples
    --------
    >>> loss = SigmoidFocalLoss.from_counts([5000, 500, 50], beta=0.999, gamma=1.0)
    >>> round(float(loss([0, 2], [[0.0, 0.0, 0.0], [0.0, 0.0, 0.0]])), 4)
    1.3948
    """

    _defaults = {**_ClassBalancedLoss._defaults, "gamma": ...}  # shown always  # noqa: RUF012

    def __init__(self, class_weights: Any = None, *, gamma: float = 0.5, **options: Any) -> None:
        super().__init__(class_weights, **options)
        self.gamma = checks.gamma(arguments.plain(gamma))

    def _kind(self) -> Kind:
        return OneVsAll(self.gamma)


def class_weight_dict(class_weights: Any) -> dict[int, float]:
    """Return class weights as ``Model.fit(class_weight=...)`` takes them, for any loss.

    The losses of this package need no such dict; with both, weights multiply. Keras makes a sample weight of it and so
    cannot have `sample_weight` as well, models of several outputs, Python generators or torch loaders; it weights
    neither `validation_data` nor ``evaluate``, a multi-hot or soft row by its largest label alone, and takes the last
    axis of labels (N, H, W) for one-hot classes. Ignored labels of a data set index out of range.

    Parameters
    ----------
    class_weights : array of floats, shape (C,), or dict of every class index

    Raises
    ------
    TypeError, ValueError
        If weights are not floating point, not a vector, not finite or negative.

    Examples
    --------
    >>> class_weight_dict([0.5, 1.5])
    {0: 0.5, 1: 1.5}
    """
    weights = arguments.host_weights(arguments.plain(class_weights)).astype(np.float64)
    return dict(enumerate(weights.tolist()))


def _dtype(dtype: Any) -> str:
    if dtype is None:
        return "float64" if keras.config.floatx() == "float64" else "float32"
    name: str = keras.dtype_policies.get(dtype).compute_dtype
    checks.choice(name, "dtype", ("float32", "float64"))
    return name
