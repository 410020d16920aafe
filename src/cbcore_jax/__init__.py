"""Class-balanced losses for JAX: pure functions for use under jit, grad, vmap and any sharding."""

try:
    import jax as _jax  # noqa: F401
except ModuleNotFoundError as error:
    if error.name != "jax":
        raise
    raise ModuleNotFoundError('cbcore_jax needs JAX: pip install "cbcore[jax]"', name="jax") from error

from cbcore_jax._losses import sigmoid_cross_entropy, sigmoid_focal_loss, softmax_cross_entropy

__all__ = ["sigmoid_cross_entropy", "sigmoid_focal_loss", "softmax_cross_entropy"]
