"""The one list of losses: what tests, adapters and pages go through when they say "every loss".

Frameworks do not share a process, so this names what a package has and looks it up in the package that a test imports.
"""

from collections.abc import Callable
from types import ModuleType
from typing import Any, NamedTuple


class Family(NamedTuple):
    """A loss: its function in every package, its class where there are classes, and options that only it has."""

    function: str
    criterion: str
    options: dict[str, float] = {}  # noqa: RUF012  # with their defaults
    is_softmax: bool = False  # made of log softmax: near zero exact only in absolute terms
    is_taught: bool = False  # to the fast paths; others leave it to its formula


FAMILIES = {
    "softmax": Family("softmax_cross_entropy", "SoftmaxCrossEntropy", is_softmax=True, is_taught=True),
    "sigmoid": Family("sigmoid_cross_entropy", "SigmoidCrossEntropy", is_taught=True),
    "focal": Family("sigmoid_focal_loss", "SigmoidFocalLoss", {"gamma": 0.5}, is_taught=True),
}
# Of the conformance table: a family, and the values of its options.
LOSSES: dict[str, tuple[str, dict[str, Any]]] = {
    "softmax": ("softmax", {}),
    "sigmoid": ("sigmoid", {}),
    **{f"focal-{gamma:g}": ("focal", {"gamma": gamma}) for gamma in (0.0, 0.3, 0.5, 1.0, 1.5, 2.0, 5.0)},
}


def functions(package: ModuleType) -> dict[str, Callable[..., Any]]:
    """Return the functions of a package."""
    return {name: getattr(package, family.function) for name, family in FAMILIES.items()}


def taught(package: ModuleType) -> dict[str, Callable[..., Any]]:
    """Return the functions of a package that its fast paths know."""
    return {name: function for name, function in functions(package).items() if FAMILIES[name].is_taught}


def criteria(package: ModuleType) -> dict[str, Any]:
    """Return the classes of a package."""
    return {name: getattr(package, family.criterion) for name, family in FAMILIES.items()}
