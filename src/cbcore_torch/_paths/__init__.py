"""The paths that a loss can take, the fastest first. Each gives the same numbers; see docs/reference/paths.md.

A path is a module: `NAME`; `refuses(call)`, the reason for which it leaves a call to the next, or None; and what
computes it: `run(rows, with_gradient)` of the call as rows, or `loss(call)`. The composite refuses nothing.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple, Protocol

from torch import Tensor

from cbcore_torch._call import Call, by_composite_only
from cbcore_torch._paths import closed, composite, host, numba, rows, small, triton


class Path(Protocol):
    """One of the modules here. It has a `run` as in `rows`, or a `loss`."""

    NAME: str

    def refuses(self, call: Call, /) -> str | None:
        """Return why this path does not take a call, or None if it does. No question is about values."""


class Taken(NamedTuple):
    """What became of one call: the path that computed it, and why those before it did not."""

    path: str
    refused: dict[str, str]


PATHS: tuple[Any, ...] = (small, numba, host, triton, closed, composite)
_candidates = PATHS
_records: list[Taken] | None = None


def compute(call: Call) -> Tensor:
    """Return the loss by the first path that takes the call."""
    reason = by_composite_only(call)
    refused: dict[str, str] = {}
    for path in _candidates:
        why = None if path is composite else reason or path.refuses(call)
        if why is None:
            run = vars(path).get("run")
            value: Tensor | None = path.loss(call) if run is None else rows.loss(call, run)
            if value is not None:
                if _records is not None:
                    _records.append(Taken(path.NAME, refused))
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
