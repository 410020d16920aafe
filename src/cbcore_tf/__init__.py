"""Class-balanced losses for TensorFlow: functions, and losses for ``keras.Model.compile``."""

try:
    import tensorflow as _tensorflow  # noqa: F401
except ModuleNotFoundError as error:
    if error.name != "tensorflow":
        raise
    raise ModuleNotFoundError('cbcore_tf needs TensorFlow: pip install "cbcore[tf]"', name="tensorflow") from error

from cbcore_tf._functional import sigmoid_cross_entropy, sigmoid_focal_loss, softmax_cross_entropy
from cbcore_tf._keras import SigmoidCrossEntropy, SigmoidFocalLoss, SoftmaxCrossEntropy, class_weight_dict

__all__ = [
    "SigmoidCrossEntropy",
    "SigmoidFocalLoss",
    "SoftmaxCrossEntropy",
    "class_weight_dict",
    "sigmoid_cross_entropy",
    "sigmoid_focal_loss",
    "softmax_cross_entropy",
]
