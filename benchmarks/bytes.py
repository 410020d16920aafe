"""Bytes that a step reads and writes, and the memory that it holds, ours against what people use: counted, not timed.

python -m benchmarks.bytes writes the page; see `benchmarks.traffic` for what is counted. On the meta device the
branches are those of GPUs, where no value can be read.
"""

import argparse
import itertools
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

import cbcore_torch
from benchmarks import formulas_torch as formulas
from benchmarks.fresh import ROOT
from benchmarks.problem import LOSSES
from benchmarks.table import markdown, pair
from benchmarks.traffic import Traffic

TARGETS = ("index", "weighted", "soft", "smoothed")
DTYPES = ("float32", "bfloat16", "float16", "float64")
DEVICES = ("cpu", "meta")
SHAPE = (4096, 8142)
SMOOTHING = 0.1
GAP = 0.005  # a target is met to the two digits that it is given in
FUNCTIONS: dict[str, Callable[..., Tensor]] = {
    "softmax": cbcore_torch.softmax_cross_entropy,
    "sigmoid": cbcore_torch.sigmoid_cross_entropy,
    "focal": cbcore_torch.sigmoid_focal_loss,
}
# (loss family, whether targets are dense): the largest share of the peer's bytes, and the peer
ASKED = {
    ("softmax", False): (0.85, "F.cross_entropy"),
    ("softmax", True): (0.9, "F.cross_entropy"),
    ("sigmoid", False): (0.5, "BCE, one-hot"),
    ("focal", False): (0.36, "torchvision's formula"),
    ("focal", True): (0.75, "torchvision's formula"),
}
KEPT, PEAK = 1.05, 1.25  # times the logits, of float32
HEADERS = ("loss", "targets", "dtype", "path", "bytes", "peers", "share of the peer", "naive", "kept", "peak")
PAGE = """\
# Bytes of a step, counted

PyTorch {version}, logits {rows} x {classes}. Made by `python -m benchmarks.bytes` on any machine: nothing is timed.

*Bytes*: read and written by all operations of forward and backward, per logit. *Peers*: the same of what people use.
*Share*: ours over the first of them, in brackets what is asked for. *Naive*: ours / the first peer's, if every
operation that is called moved all its inputs and outputs in full. *Kept*: new memory that is still held after the
forward, over the logits, ours / the first peer's; *peak*: the most that was held at a time, with the gradient.

Operations that PyTorch makes of others count as those; what an expanded tensor, a gather or a scatter does not touch is
not counted. Dense targets for labels are made by a scatter, the cheapest way there is; soft ones are given. (Of dense
targets torchvision's formula makes another loss than ours and kornia's.) On the meta device nothing is computed: there
the branches are those of GPUs, where no value is read.
"""
Loss = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Case:
    """What is computed."""

    loss: str
    targets: str
    dtype: str
    device: str

    @property
    def family(self) -> str:
        """Return "softmax", "sigmoid" or "focal"."""
        return self.loss.split("-")[0]

    @property
    def gamma(self) -> float:
        """Return the focusing parameter, 0 for the other losses."""
        return float(self.loss.partition("-")[2] or 0)


@dataclass(frozen=True)
class Row:
    """One candidate of one case: bytes per logit moved, and memory over that of the logits."""

    loss: str
    targets: str
    dtype: str
    device: str
    name: str
    path: str
    moved: float
    naive: float
    kept: float
    peak: float

    @property
    def case(self) -> Case:
        """Return what was computed."""
        return Case(self.loss, self.targets, self.dtype, self.device)


@dataclass(frozen=True)
class Batch:
    """One batch; `dense` are soft targets."""

    logits: Tensor
    labels: Tensor
    dense: Tensor
    weights: Tensor

    @property
    def tensors(self) -> list[Tensor]:
        """Return all of it."""
        return [self.logits, self.labels, self.dense, self.weights]


def batch(dtype: str, device: str, rows: int, classes: int) -> Batch:
    """Make a batch; of what it holds no count depends."""
    random = torch.Generator().manual_seed(0)
    logits = torch.randn(rows, classes, generator=random)
    labels = torch.randint(classes, (rows,), generator=random)
    of = getattr(torch, dtype)
    return Batch(
        logits.to(device, of, copy=True).requires_grad_(), labels.to(device), logits.softmax(1).to(device, of),
        torch.rand(classes, generator=random).to(device, torch.float64 if dtype == "float64" else torch.float32),
    )  # fmt: skip


def function(case: Case) -> Callable[..., Tensor]:
    """Return our public function, of a given power."""
    return partial(FUNCTIONS["focal"], gamma=case.gamma) if case.family == "focal" else FUNCTIONS[case.family]


def ours(case: Case, data: Batch) -> Loss:
    """Return our loss of the logits."""
    return partial(
        function(case),
        target=data.dense if case.targets == "soft" else data.labels,
        class_weights=data.weights if case.targets == "weighted" else None,
        label_smoothing=SMOOTHING if case.targets == "smoothed" else 0.0,
    )


def peers(case: Case, data: Batch) -> dict[str, Loss]:
    """Return what people use, the one that we are measured by first."""
    if case.family == "softmax":
        weights = data.weights.to(data.logits.dtype) if case.targets == "weighted" else None
        targets, smoothing = data.labels, 0.0
        if case.targets == "soft":
            targets = data.dense
        elif case.targets == "smoothed":
            smoothing = SMOOTHING
        return {"F.cross_entropy": lambda z: functional.cross_entropy(z, targets, weights, label_smoothing=smoothing)}
    terms: dict[str, Callable[..., Tensor]] = {"BCE, one-hot": formulas.bce}
    if case.family == "focal":
        terms = {
            "torchvision's formula": partial(formulas.torchvision_focal, gamma=case.gamma),
            "kornia's formula": partial(formulas.kornia_focal, gamma=case.gamma),
        }
    return {name: partial(_one_vs_all, case, data, term) for name, term in terms.items()}


def _one_vs_all(case: Case, data: Batch, term: Callable[..., Tensor], z: Tensor) -> Tensor:
    if case.targets == "soft":
        dense = data.dense
    else:
        dense = formulas.one_hot(data.labels, z, SMOOTHING if case.targets == "smoothed" else 0.0)
    rows = term(z, dense).sum(1)
    return (rows * data.weights[data.labels]).mean() if case.targets == "weighted" else rows.mean()


def count(loss: Loss, data: Batch) -> tuple[Traffic, int]:
    """Return what a step moves, and the new memory that was held after its forward."""
    with Traffic(data.tensors) as traffic:
        value = loss(data.logits)
        kept = traffic.held()
        (gradient,) = torch.autograd.grad(value, data.logits)
    assert gradient.shape == data.logits.shape
    return traffic, kept


def path_of(loss: Loss, data: Batch) -> str:
    """Return the path that our function takes inside a count, where it can be asked."""
    paths: Any = getattr(cbcore_torch, "paths", None)
    if paths is None:
        return ""
    with Traffic(), paths() as records:
        loss(data.logits)
    return str(records[-1].path)


def row(case: Case, name: str, loss: Loss, data: Batch) -> Row:
    """Count one candidate."""
    traffic, kept = count(loss, data)
    size, itemsize = data.logits.numel(), data.logits.itemsize
    path = path_of(loss, data) if name == "cbcore" else ""
    return Row(
        **asdict(case), name=name, path=path, moved=round(traffic.moved / size, 2),
        naive=round(traffic.naive / size, 2), kept=round(kept / size / itemsize, 3),
        peak=round(traffic.peak / size / itemsize, 3),
    )  # fmt: skip


def rows(cases: Sequence[Case], shape: tuple[int, int]) -> Iterator[Row]:
    """Count everything: ours, then the peers of each case."""
    data = None
    for case in cases:
        if data is None or (data.logits.device.type, str(data.logits.dtype)) != (case.device, f"torch.{case.dtype}"):
            data = batch(case.dtype, case.device, *shape)
        for name, loss in {"cbcore": ours(case, data), **peers(case, data)}.items():
            yield row(case, name, loss, data)


def operations(case: Case, shape: tuple[int, int]) -> str:
    """Say which of our operations move the bytes of a case, the largest first."""
    data = batch(case.dtype, case.device, *shape)
    traffic, _ = count(ours(case, data), data)
    size = data.logits.numel()
    return "\n".join(f"{moved / size:8.2f} {name}" for name, moved in traffic.by_operation.most_common())


def page(found: Sequence[Row], shape: tuple[int, int]) -> str:
    """Return the page."""
    parts = [PAGE.format(version=torch.__version__, rows=shape[0], classes=shape[1])]
    for device in dict.fromkeys(one.device for one in found):
        table = [line(one, found) for one in found if (one.name, one.device) == ("cbcore", device)]
        parts.append(f"## {device}\n\n{markdown(HEADERS, table)}\n")
    return "\n".join(parts)


def line(mine: Row, found: Sequence[Row]) -> tuple[str, ...]:
    """Return the cells of one of our rows."""
    others = [one for one in found if one.case == mine.case and one.name != "cbcore"]
    first, case = others[0], mine.case
    share = mine.moved / first.moved
    asked, peer = ASKED.get((case.family, case.targets in ("soft", "smoothed")), (None, first.name))
    assert peer == first.name
    limits = (KEPT, PEAK) if case.dtype == "float32" else (None, None)
    return (
        case.loss, case.targets, case.dtype, mine.path, f"{mine.moved:.1f}",
        ", ".join(f"{one.name} {one.moved:.1f}" for one in others),
        f"{share:.2f}" + _verdict(share, asked, GAP),
        pair("{:.0f}".format, mine.naive, first.naive),
        pair("{:.2f}".format, mine.kept, first.kept) + _verdict(mine.kept, limits[0], 0),
        pair("{:.2f}".format, mine.peak, first.peak) + _verdict(mine.peak, limits[1], 0),
    )  # fmt: skip


def _verdict(value: float, most: float | None, gap: float) -> str:
    return "" if most is None else f" (≤ {most:.3g} {'met' if value <= most + gap else 'MISSED'})"


def main(argv: Sequence[str] | None = None) -> None:
    """Count the bytes of a step, ours and the peers'."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.bytes", description=main.__doc__)
    add = parser.add_argument
    add("--losses", nargs="+", choices=LOSSES, default=LOSSES)
    add("--targets", nargs="+", choices=TARGETS, default=TARGETS)
    add("--dtypes", nargs="+", choices=DTYPES, default=DTYPES)
    add("--devices", nargs="+", default=DEVICES, help="cpu, meta, or a real one: cuda")
    add("--shape", type=int, nargs=2, default=SHAPE, metavar=("ROWS", "CLASSES"))
    add("--operations", action="store_true", help="say instead which of our operations move the bytes")
    add("--out", type=Path, help="page to write (.md), JSON beside it; nothing is written for a part of the table")
    options = parser.parse_args(argv)
    order = itertools.product(options.devices, options.dtypes, options.losses, options.targets)
    cases = [Case(loss, targets, dtype, device) for device, dtype, loss, targets in order]
    shape = tuple(options.shape)
    if options.operations:
        for case in cases:
            print(f"{case.loss} {case.targets} {case.dtype} {case.device}\n{operations(case, shape)}")
        return
    found = list(rows(cases, shape))
    text = page(found, shape)
    print(text)
    whole = len(cases) == len(DEVICES) * len(DTYPES) * len(LOSSES) * len(TARGETS)
    out = options.out or (ROOT / "benchmarks" / "results" / "bytes.md" if whole else None)
    if out is not None:
        out.write_text(text)
        lines = ",\n".join(json.dumps(asdict(one)) for one in found)
        out.with_suffix(".json").write_text(f"[\n{lines}\n]\n")


if __name__ == "__main__":
    main()
