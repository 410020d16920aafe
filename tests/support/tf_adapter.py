"""TensorFlow in the conformance table."""

from typing import Any

import numpy as np
import tensorflow as tf

import cbcore_tf
from tests.support.losses import functions
from tests.support.spec import Call

LOSSES = functions(cbcore_tf)
IGNORED = -100


class TfAdapter:
    name = "tf"
    dtypes = ("float64", "float32", "float16", "bfloat16")
    modes = ("eager", "compiled")

    def __call__(self, call: Call, mode: str) -> tuple[np.ndarray, np.ndarray | None]:
        ignored = {} if call.valid is None else {"ignore_class": IGNORED}

        def step(y_true: Any, y_pred: Any, class_weights: Any, sample_weight: Any) -> Any:
            with tf.GradientTape() as tape:
                tape.watch(y_pred)
                value = LOSSES[call.loss](
                    y_true,
                    y_pred,
                    class_weights,
                    axis=call.axis,
                    sample_weight=sample_weight,
                    **ignored,
                    **call.options,
                )
            return value, tape.gradient(value, y_pred)

        if mode != "eager":
            step = tf.function(step, jit_compile=mode == "compiled")
        targets = call.targets if call.valid is None else np.where(call.valid, call.targets, IGNORED)
        arrays = (targets, call.logits, call.class_weights, call.sample_weight)
        value, gradient = step(*(None if x is None else tf.constant(x) for x in arrays))
        return value.numpy(), gradient.numpy()
