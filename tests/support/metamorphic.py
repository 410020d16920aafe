"""Properties that hold between calls of a loss, whatever the framework: no reference needed."""

import dataclasses
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tests.support.losses import LOSSES
from tests.support.spec import Adapter, Call

CLOSE: Any = {"rtol": 1e-5, "atol": 1e-5}


@st.composite
def calls(draw: Any, losses: tuple[str, ...] = tuple(LOSSES)) -> Call:
    """Draw a call with index or soft targets, in float32."""
    loss, own = LOSSES[draw(st.sampled_from(losses))]
    n, c = 4, 3  # one shape: a new one would be compiled again
    elements = st.floats(-30, 30, width=32)
    logits = draw(hnp.arrays(np.float32, (n, c), elements=elements))
    if draw(st.booleans()):
        targets = draw(hnp.arrays(np.int64, n, elements=st.integers(0, c - 1)))
    else:
        targets = draw(hnp.arrays(np.float32, (n, c), elements=st.floats(0, 1, width=32)))
    weights = draw(hnp.arrays(np.float32, c, elements=st.floats(0.125, 8, width=32)))
    smoothing = draw(st.sampled_from([0.0, 0.1]))
    return Call(loss, logits, targets, weights, reduction="none", label_smoothing=smoothing, **own)


def check(adapter: Adapter) -> None:
    """Assert every property of an adapter."""
    mode = adapter.modes[0]

    def value(call: Call, **changes: Any) -> np.ndarray:
        return adapter(dataclasses.replace(call, **changes), mode)[0]

    @given(calls(), st.permutations(range(4)))
    @settings(max_examples=30)
    def batch_order(call: Call, order: list[int]) -> None:
        shuffled = value(call, logits=call.logits[order], targets=call.targets[order])
        np.testing.assert_allclose(shuffled, value(call)[order], **CLOSE)

    @given(calls(), st.permutations(range(3)))
    @settings(max_examples=30)
    def class_relabelling(call: Call, order: list[int]) -> None:
        assert call.class_weights is not None
        targets = np.argsort(order)[call.targets] if call.targets.ndim == 1 else call.targets[:, order]
        renamed = value(call, logits=call.logits[:, order], targets=targets, class_weights=call.class_weights[order])
        np.testing.assert_allclose(renamed, value(call), **CLOSE)

    @given(calls())
    @settings(max_examples=30)
    def reductions_agree(call: Call) -> None:
        each = value(call)
        np.testing.assert_allclose(value(call, reduction="sum"), each.sum(), **CLOSE)
        np.testing.assert_allclose(value(call, reduction="mean"), each.mean(), **CLOSE)

    @given(calls())
    @settings(max_examples=30)
    def concatenation_adds_up(call: Call) -> None:
        halves = [
            value(call, logits=call.logits[[i, j]], targets=call.targets[[i, j]], reduction="sum")
            for i, j in ((0, 1), (2, 3))
        ]
        np.testing.assert_allclose(value(call, reduction="sum"), sum(halves), **CLOSE)

    @given(calls(), st.sampled_from([0.25, 2.0, 8.0]))
    @settings(max_examples=30)
    def linear_in_the_weights(call: Call, scale: float) -> None:
        assert call.class_weights is not None
        if call.targets.ndim == 2 and (call.targets.sum(1) == 0).any():
            return  # such rows weigh 1, whatever the class weights
        scaled = value(call, class_weights=(call.class_weights * scale).astype(np.float32))
        np.testing.assert_allclose(scaled, value(call) * scale, **CLOSE)

    @given(calls())
    @settings(max_examples=30)
    def equal_weights_are_no_weights(call: Call) -> None:
        ones = np.ones(3, np.float32)
        np.testing.assert_allclose(value(call, class_weights=ones), value(call, class_weights=None), **CLOSE)

    @given(calls())
    @settings(max_examples=30)
    def one_hot_targets_are_indices(call: Call) -> None:
        if call.targets.ndim == 1:
            one_hot = np.eye(3, dtype=np.float32)[call.targets]
            np.testing.assert_allclose(value(call, targets=one_hot), value(call), **CLOSE)

    @given(calls(losses=("focal-0",)))
    @settings(max_examples=30)
    def focal_without_focus_is_sigmoid(call: Call) -> None:
        np.testing.assert_allclose(value(call), value(call, loss="sigmoid"), **CLOSE)

    @given(calls(losses=("softmax",)))
    @settings(max_examples=30)
    def softmax_gradients_sum_to_zero(call: Call) -> None:
        _, gradient = adapter(call, mode)
        if gradient is not None and call.targets.ndim == 1:
            np.testing.assert_allclose(gradient.sum(1), 0, atol=1e-5)

    for prove in (
        batch_order,
        class_relabelling,
        reductions_agree,
        concatenation_adds_up,
        linear_in_the_weights,
        equal_weights_are_no_weights,
        one_hot_targets_are_indices,
        focal_without_focus_is_sigmoid,
        softmax_gradients_sum_to_zero,
    ):
        prove()
