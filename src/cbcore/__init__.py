"""Class-balanced losses (Cui et al., CVPR 2019): counts, effective numbers, weights and three losses.

The mathematics of counts and weights runs here, in float64 on the host, once. The losses here run on any Array-API
array; ``cbcore_torch`` and its siblings run the same formulas inside their framework.
"""

from cbcore._choose import PriorChoice, choose_prior
from cbcore._counts import class_counts, imbalance_factor, long_tailed_counts, long_tailed_indices
from cbcore._losses import sigmoid_cross_entropy, sigmoid_focal_loss, softmax_cross_entropy
from cbcore._posterior import adjust_logits, posterior
from cbcore._priors import logit_adjustment
from cbcore._ratio import beta_from_ratio, beta_grid
from cbcore._weights import class_weights, effective_number, prior_bias

__all__ = [
    "PriorChoice",
    "adjust_logits",
    "beta_from_ratio",
    "beta_grid",
    "choose_prior",
    "class_counts",
    "class_weights",
    "effective_number",
    "imbalance_factor",
    "logit_adjustment",
    "long_tailed_counts",
    "long_tailed_indices",
    "posterior",
    "prior_bias",
    "sigmoid_cross_entropy",
    "sigmoid_focal_loss",
    "softmax_cross_entropy",
]
__version__ = "0.2.0"
