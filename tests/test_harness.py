"""The conformance table can fail: every known-wrong loss is caught."""

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest

from tests.support import spec
from tests.support.numpy_adapter import NumpyAdapter
from tests.support.spec import Call

Result = tuple[np.ndarray, np.ndarray | None]
HONEST = NumpyAdapter()


def closed_form(call: Call) -> Result:
    """Value from the core and gradient from the reference: honest, so that each mutant is one change."""
    from tests.support import reference

    gradient = reference.loss(**vars(call)).gradient.astype(call.logits.dtype)
    return HONEST(dataclasses.replace(call, sample_weight=None), "eager")[0], gradient


def changed(**changes: Callable[[Call], object]) -> Callable[[Call], Result]:
    return lambda call: closed_form(dataclasses.replace(call, **{k: f(call) for k, f in changes.items()}))  # type: ignore[arg-type]


def exp_of_log(call: Call) -> Result:
    """Write the modulator as exp(gamma log sigmoid), inaccurate at gamma = 5."""
    v = np.where(np.eye(call.logits.shape[-1], dtype=bool)[call.targets], -call.logits, call.logits)
    spread = np.log1p(np.exp(-np.abs(v)))
    loss = ((np.maximum(v, 0) + spread) * np.exp(np.float32(call.gamma) * (np.minimum(v, 0) - spread))).sum(-1)
    return loss.astype(np.float32), closed_form(call)[1]


def power_of_one_minus_p(call: Call) -> Result:
    """Write the modulator as (1 - p)^gamma, which cancels for well-classified samples."""
    v = np.where(np.eye(call.logits.shape[-1], dtype=bool)[call.targets], -call.logits, call.logits)
    one = np.float32(1)
    with np.errstate(over="ignore"):
        p = one / (one + np.exp(v))
    loss = ((one - p) ** np.float32(call.gamma) * np.logaddexp(np.float32(0), v)).sum(-1)
    return loss.astype(np.float32), closed_form(call)[1]


def neighbour(call: Call) -> object:
    return None if call.class_weights is None else np.roll(call.class_weights, 1)


INDEX, SOFT = ("index", "none"), ("soft",)
MUTANTS: dict[str, tuple[Callable[[Call], Result], str, tuple[str, ...]]] = {
    "weights dropped": (changed(class_weights=lambda _: None), "softmax", INDEX + SOFT),
    "the neighbour's weight": (changed(class_weights=neighbour), "sigmoid", INDEX + SOFT),
    "gamma + 1": (changed(gamma=lambda call: call.gamma + 1), "focal-2", INDEX + SOFT),
    "sum for mean": (changed(reduction=lambda _: "sum"), "softmax", ("index", "soft", "ignored")),
    "divided by the weights": (changed(reduction=lambda _: "weighted_mean"), "softmax", ("index", "soft", "ignored")),
    "softmax for sigmoid": (changed(loss=lambda _: "softmax"), "sigmoid", INDEX + SOFT),
    "smoothing dropped": (changed(label_smoothing=lambda _: 0.0), "softmax", ("smoothing", "soft-smoothing")),
    "sign flipped": (lambda call: (-closed_form(call)[0], closed_form(call)[1]), "sigmoid", INDEX + SOFT),
    "gradient detached": (lambda call: (closed_form(call)[0], np.zeros_like(call.logits)), "focal-0.5", INDEX + SOFT),
    "gradient flipped": (lambda call: (closed_form(call)[0], -(closed_form(call)[1])), "focal-0.5", INDEX + SOFT),  # type: ignore[operator]
    "exp(gamma log sigmoid)": (exp_of_log, "focal-5", ("scan",)),
    "(1 - p)^gamma": (power_of_one_minus_p, "focal-0.5", ("scan",)),
}


class Mutant:
    name, dtypes, modes = "mutant", ("float32",), ("eager",)

    def __init__(self, wrong: Callable[[Call], Result]) -> None:
        self.wrong = wrong

    def __call__(self, call: Call, mode: str) -> Result:  # noqa: ARG002
        return self.wrong(call)


def test_the_unchanged_loss_passes() -> None:
    for loss in ("softmax", "sigmoid", "focal-0.5", "focal-2", "focal-5"):
        for case in ("index", "none", "soft", "ignored", "smoothing", "soft-smoothing", "scan"):
            spec.check(Mutant(closed_form), spec.Cell(loss, case, "float32", "eager"))


@pytest.mark.parametrize(
    ("name", "case"), [(name, case) for name, (_, _, cases) in MUTANTS.items() for case in cases]
)  # fmt: skip
def test_mutant_is_caught(name: str, case: str) -> None:
    wrong, loss, _ = MUTANTS[name]
    with pytest.raises(AssertionError, match="off by"):
        spec.check(Mutant(wrong), spec.Cell(loss, case, "float32", "eager"))
