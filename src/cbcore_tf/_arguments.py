"""Arguments that TensorFlow has kinds of its own for: tensors as options, and class weights from anywhere."""

import warnings
from typing import Any, TypeAlias

import numpy as np
import tensorflow as tf

from cbcore import _checks as checks
from cbcore._arrays import Host, aligned, to_host

Tensor: TypeAlias = Any

_PASSED_ON = {"Identity", "Cast", "Reshape", "Squeeze", "ExpandDims", "Transpose", "EnsureShape", "StopGradient"}
_PROBABILITIES = (
    "y_pred must be logits (raw scores of the model), got the output of a {}: the loss applies its own, and would "
    "train on probabilities; remove the activation from the last layer"
)


def plain(option: Any) -> Any:
    """Return an eager tensor as what NumPy has for it; everything else, variables too, as it is."""
    return option.numpy() if isinstance(option, tf.__internal__.EagerTensor) else option


def class_weights(values: Any) -> Tensor:
    """Return class weights as a tensor, those from the host checked and in the precision that they have there.

    Tensors and variables stay what they are, so that a variable is read at every step; their values are not looked at.
    """
    if not (tf.is_tensor(values) or _variable(values)):
        try:
            values = host_weights(values, one_axis=False)
        except NotImplementedError:  # a list of the tensors of a graph
            values = tf.convert_to_tensor(values)
    return tf.convert_to_tensor(values)


def fixed_weights(values: Any) -> Host:
    """Return the class weights of a loss object, float64 on the host: graphs made from it would keep the old ones."""
    if _variable(values):
        raise _not_fixed(type(values).__name__)
    try:
        return host_weights(values).astype(np.float64)
    except NotImplementedError:
        raise _not_fixed("a tensor of a graph") from None


def host_weights(values: Any, *, one_axis: bool = True) -> Host:
    """Return class weights as NumPy, in the order of the classes, their kind and values checked."""
    host = to_host(aligned(values, "class_weights", fill=False), "class_weights")[0]
    if one_axis or host.ndim == 1:  # otherwise the text will say how many there are to be
        checks.weights(checks.weights_on_host(host))
    return host


def activation(y_pred: Any) -> str | None:
    """Tell a softmax or a sigmoid that logits came out of, where that can be known; reads no value."""
    if hasattr(y_pred, "_keras_logits"):  # Keras leaves it on the output of both, for its own losses
        return "softmax or a sigmoid"
    operation = getattr(y_pred, "op", None) if isinstance(y_pred, tf.Tensor) and not _eager(y_pred) else None
    while operation is not None and operation.type in _PASSED_ON:
        source = operation.inputs[0]
        if hasattr(source, "_keras_logits"):
            return "softmax or a sigmoid"
        operation = source.op
    return operation.type.lower() if operation is not None and operation.type in ("Softmax", "Sigmoid") else None


def warn_of_probabilities(y_pred: Any) -> bool:
    """Warn if logits are known to be probabilities; tell whether they are."""
    found = activation(y_pred)
    if found:
        warnings.warn(_PROBABILITIES.format(found), UserWarning, stacklevel=4)
    return found is not None


def _not_fixed(kind: str) -> TypeError:
    return TypeError(
        f"class_weights must be fixed numbers, got {kind}, whose later values the loss would not see; pass its NumPy "
        "value, or call the function with it, which reads it at every step"
    )


def _variable(values: Any) -> bool:
    return hasattr(values, "assign")


def _eager(x: Any) -> bool:
    return isinstance(x, tf.__internal__.EagerTensor)
