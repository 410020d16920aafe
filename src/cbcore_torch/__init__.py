"""Class-balanced losses for PyTorch: functions, modules, and the paper's training helpers."""

try:
    import torch as _torch  # noqa: F401
except ModuleNotFoundError as error:
    if error.name != "torch":
        raise
    raise ModuleNotFoundError('cbcore_torch needs PyTorch: pip install "cbcore[torch]"', name="torch") from error

from cbcore_torch._functional import sigmoid_cross_entropy, sigmoid_focal_loss, softmax_cross_entropy
from cbcore_torch._modules import SigmoidCrossEntropy, SigmoidFocalLoss, SoftmaxCrossEntropy
from cbcore_torch._paths import paths
from cbcore_torch._training import DeferredReweighting, init_prior_bias_, param_groups

__all__ = [
    "DeferredReweighting",
    "SigmoidCrossEntropy",
    "SigmoidFocalLoss",
    "SoftmaxCrossEntropy",
    "init_prior_bias_",
    "param_groups",
    "paths",
    "sigmoid_cross_entropy",
    "sigmoid_focal_loss",
    "softmax_cross_entropy",
]
