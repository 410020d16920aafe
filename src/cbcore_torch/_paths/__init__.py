"""The paths that a loss can take, the fastest first. Each gives the same numbers; see docs/reference/paths.md.

A path is a module: `NAME`; `refuses(call)`, the reason for which it leaves a call to the next, or None; and
`loss(call)`, which may still return None where values decide. The composite refuses nothing.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple, Protocol

from torch import Tensor

from cbcore_torch._call import Call, by_composite_only
from cbcore_torch._paths import closed, composite, numba, small, triton


class Path(Protocol):
    """One of the modules here."""

    NAME: str

    def refuses(self, call: Call, /) -> str | None:
        """Return why this path does not take a call, or None if it does. No question is about values."""

    def loss(self, call: Call, /) -> Tensor | None:
        """Return the loss, or None where it takes a look at the values to see that it is for another path."""


class Taken(NamedTuple):
    """What became of one call: the path that computed it, and why those before it did not."""

    path: str
    refused: dict[str, str]


PATHS: tuple[Any, ...] = (triton, small, numba, closed, composite)
_candidates = PATHS
_records: list[Taken] | None = None


def compute(call: Call) -> Tensor:
    """Return the loss by the first path that takes the call."""
    if _records is not None:
        return _recorded(call, _records)
    if by_composite_only(call) is None:
        for path in _candidates:  # pragma: no branch  # the composite refuses nothing
            if path.refuses(call) is None and (value := path.loss(call)) is not None:
                return value  # type: ignore[no-any-return]
    return composite.loss(call)


def _recorded(call: Call, records: list[Taken]) -> Tensor:
    """As `compute`, and say why."""
    refused: dict[str, str] = {}
    reason = by_composite_only(call)
    for path in _candidates:
        why = reason or path.refuses(call)
        if path is composite or why is None:
            value: Tensor | None = path.loss(call)
            if value is not None:
                records.append(Taken(path.NAME, refused))
                return value
            why = "a target is ignored or no class"
        refused[path.NAME] = why
    raise AssertionError("the composite refuses nothing")


@contextmanager
def paths() -> Iterator[list[Taken]]:
    """Record which path each call of a loss takes, and why not a faster one: for the curious and for bug reports.

    The list that is yielded has one entry for each call inside the block, in every thread: ``path``, the name of the
    path as in the table of :doc:`/reference/paths`, and ``refused``, the reason of each path before it. A function
    that `torch.compile` has compiled already makes no entry.

    Examples
    --------
    >>> import torch, cbcore_torch
    >>> with cbcore_torch.paths() as taken:
    ...     _ = cbcore_torch.sigmoid_focal_loss(torch.zeros(4, 3).double(), torch.tensor([0, 1, 2, 0]))
    >>> taken[0].path
    'closed form'
    >>> taken[0].refused["triton"]
    'input is on the device cpu; Triton is for cuda'
    """
    global _records
    before, _records = _records, []
    try:
        yield _records
    finally:
        _records = before


@contextmanager
def only(name: str) -> Iterator[None]:
    """Allow one path beside the composite, for tests and benchmarks."""
    global _candidates
    before, _candidates = _candidates, tuple(path for path in PATHS if path.NAME in (name, composite.NAME))
    try:
        yield
    finally:
        _candidates = before
