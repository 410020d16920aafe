"""One NVIDIA GPU in under six minutes: are the losses right there, do they ever wait, and how fast are they.

    python -m benchmarks.gpu                        # writes results/gpu.md and results/gpu.json
    python -m benchmarks.gpu --device cpu --tiny    # rehearses all of it on a CPU; its times mean nothing

Each part is a process of its own with a budget of seconds: what is slow, or breaks the device, costs no other part
anything, and what it had said by then counts. A peer that is not installed is named and left out.
"""

import argparse
import contextlib
import itertools
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import torch
from torch import Tensor
from torch.nn import functional

import cbcore_torch
from benchmarks import bytes as count
from benchmarks import cuda, machine
from benchmarks import formulas_torch as formulas
from benchmarks.cuda import Device
from benchmarks.fresh import ROOT
from benchmarks.measure import TINY, Plan, measure
from benchmarks.problem import BETA, Candidate, MissingError, Outcome, Problem, optional
from benchmarks.table import duration, markdown, times
from benchmarks.targets import GPU_FOCAL_RATIO, GPU_SECONDS

LOSSES = ("softmax", "sigmoid", "focal-2")
SHAPES, TINY_SHAPES = ((4096, 8142), (8192, 100_000)), ((64, 300),)
DTYPES = ("float32", "bfloat16")
TOLERANCE = {"float32": 1e-3, "bfloat16": 2e-2}  # of peers, which round on the way
SMALL = (256, 1000)  # logits of a step that is looked at, not timed
PLAN = Plan(batch_seconds=0.01, rounds=9, fewest=5, limit_seconds=1)
SLOW = 1.0  # seconds: a step that takes longer is not timed further
SECONDS = {"correctness": 50, "waits": 25, "graphs": 25, "compile": 45, "times": 52}  # four of the last: 353
GRAPH_LIMIT = 100_000_000  # logits: a graph keeps the memory of its step
NOT_RUN = "# One GPU\n\nnot run: there was no GPU. `python -m benchmarks.gpu` makes this page where there is one.\n"
PAGE = """\
# One GPU: {GPU}

Made by `python -m benchmarks.gpu`. *Correctness*: value and gradient of the public functions against the 50-digit
reference, within the tolerance of the conformance table, and of many classes against float64 on the CPU. *Waits*: a
step under `set_sync_debug_mode("error")`. *Graphs*: captured in a CUDA graph, replayed with other logits. *Compile*:
`torch.compile(fullgraph=True)`. *Times*: forward and backward, median; *x copy*: over a copy of the logits; *ratio*:
its time over ours; *memory*: the peak of a step beyond what was there, over the logits (of the gradient alone: 1).
Liger works in place, which spares it one array.
"""
Row = dict[str, Any]


class Work(NamedTuple):
    """What a part is given."""

    device: Device
    tiny: bool
    shape: tuple[int, int]
    dtype: str


@dataclass
class Result:
    """What a part said, and how it ended."""

    name: str
    state: str
    seconds: float
    rows: list[Row] = field(default_factory=list)

    @property
    def failures(self) -> list[Row]:
        """Return what went wrong in our own functions."""
        return [row for row in self.rows if row.get("error")]


# ---------------------------------------------------------------- ours, looked at


def correctness(work: Work) -> Iterator[Row]:
    """Check the conformance table of the public functions, eagerly."""
    try:
        from tests.support import spec
    except ModuleNotFoundError as error:
        yield {"case": "all", "note": f"left out: {error.name} is not installed"}
        return
    adapter = Public(work.device)
    names = ("softmax", "focal-2") if work.tiny else ("softmax", "sigmoid", "focal-0.5", "focal-2")
    for cell in spec.cells(adapter):
        if cell.loss in names and not (work.tiny and cell.dtype != "float32"):
            yield tried(str(cell), partial(spec.check, adapter, cell))
    for case in cases(work, names, ("weighted",), ("float32", "bfloat16", "float16")):
        for classes in (1009,) if work.tiny else (8142, 100_003):
            yield tried(f"{_words(case)}, {classes} classes", partial(_many_classes, case, classes))


class Public:
    """The public functions as an adapter of the conformance table."""

    name = "torch, public"
    dtypes: Sequence[str] = count.DTYPES
    modes: Sequence[str] = ("eager",)

    def __init__(self, device: Device) -> None:
        self.device = device

    def __call__(self, call: Any, mode: str) -> tuple[Any, Any]:  # noqa: ARG002
        """Return value and gradient."""
        ignored = -100
        targets = call.targets if call.valid is None else call.valid * call.targets + ~call.valid * ignored
        given = (call.logits, targets, call.class_weights, call.sample_weight)
        logits, target, weights, sample_weight = map(self.tensor, given)
        logits.requires_grad_()
        options = {"gamma": call.gamma} if call.loss == "focal" else {}
        value = count.FUNCTIONS[call.loss](
            logits, target, weights, sample_weight=sample_weight, dim=call.axis, reduction=call.reduction,
            label_smoothing=call.label_smoothing, unlabelled_weight=call.unlabelled_weight, **options,
        )  # fmt: skip
        (gradient,) = torch.autograd.grad(value.sum(), logits)
        exact = gradient.cpu() if gradient.dtype != torch.bfloat16 else gradient.float().cpu()
        return value.detach().cpu().numpy(), exact.numpy().astype(call.logits.dtype)

    def tensor(self, x: Any) -> Any:
        """Return an array as a tensor on the device; NumPy's bfloat16 is not PyTorch's."""
        if x is None:
            return None
        if x.dtype.name == "bfloat16":
            return torch.from_numpy(x.astype("float32")).to(self.device.name, torch.bfloat16)
        return torch.from_numpy(x.copy()).to(self.device.name)


def _many_classes(case: count.Case, classes: int) -> None:
    """Compare rows of many blocks, awkward ones among them, with float64 on the CPU."""
    from tests.support import spec

    data = count.batch(case.dtype, case.device, 16, classes)
    logits, labels = data.logits.detach().clone(), data.labels.clone()
    labels[1], logits[1] = -100, float("nan")  # ignored
    labels[2] = classes  # no class: NaN
    logits[3] = 1e4
    logits[4, ::2], logits[4, 1::2] = 1e4, -1e4
    exact = logits.double().cpu().requires_grad_()
    loss = partial(count.function(case), reduction="none")
    expected = loss(exact, labels.cpu(), data.weights.double().cpu())
    got = loss(logits.requires_grad_(), labels, data.weights)
    eps, rows = torch.finfo(torch.float32).eps, data.weights.double().cpu()[labels.cpu().clamp(0, classes - 1)]
    floor = spec.SOFTMAX_FLOOR * eps * rows if case.family == "softmax" else 0 * rows
    tiny, own = torch.finfo(torch.float32).tiny, torch.finfo(logits.dtype)
    relative = spec.RELATIVE["float32"]
    _within("value", got, expected, relative * expected.abs() + floor + tiny * classes)
    slopes = [torch.autograd.grad(value.sum(), z)[0] for value, z in ((got, logits), (expected, exact))]
    relative += own.eps / 2 if own.bits < 32 else 0.0
    limit = relative * slopes[1].abs() + floor[:, None] + tiny + own.tiny
    _within("gradient", slopes[0], slopes[1], limit)


def _within(what: str, got: Tensor, expected: Tensor, limit: Tensor) -> None:
    got, expected = got.detach().double().cpu(), expected.detach()
    wrong = ~(((got - expected).abs() <= limit) | (got.isnan() & expected.isnan()))
    if wrong.any():
        first = tuple(wrong.nonzero()[0].tolist())
        raise AssertionError(
            f"{what}{list(first)}: got {got[first]:g}, expected {expected[first]:g}; {int(wrong.sum())} elements fail"
        )


def cases(work: Work, losses: Sequence[str], targets: Sequence[str], dtypes: Sequence[str]) -> Iterator[count.Case]:
    """Yield what is looked at, a part of it in a rehearsal."""
    for dtype, kind, loss in itertools.product(dtypes, targets, losses):
        if not work.tiny or (dtype == "float32" and loss in ("softmax", "focal-2")):
            yield count.Case(loss, kind, dtype, work.device.name)


def waits(work: Work) -> Iterator[Row]:
    """Take a step where waiting for the device is an error."""
    for case in cases(work, ("softmax", "sigmoid", "focal-0.5", "focal-2"), count.TARGETS, count.DTYPES):
        yield tried(_words(case), partial(_without_waiting, work, case))


def _without_waiting(work: Work, case: count.Case) -> None:
    data = count.batch(case.dtype, case.device, *SMALL)
    loss = count.ours(case, data)
    step(loss, data.logits)  # what happens once: kernels are loaded, and prove themselves
    with work.device.waiting_is_an_error():
        step(loss, data.logits)


def graphs(work: Work) -> Iterator[Row]:
    """Capture a step, replay it with other logits, and compare with the same step outside."""
    for case in cases(work, LOSSES, count.TARGETS, count.DTYPES):
        yield tried(_words(case), partial(_replayed, work, case))


def _replayed(work: Work, case: count.Case) -> None:
    data = count.batch(case.dtype, case.device, *SMALL)
    loss = count.ours(case, data)
    output, replay = work.device.captured(partial(step, loss, data.logits))
    with torch.no_grad():
        data.logits.copy_(data.logits.flip(0) * 1.5)
    replay()
    _same(output, step(loss, data.logits), case)


def compiled(work: Work) -> Iterator[Row]:
    """Compile a step whole, and compare with the same step as it is."""
    found = [*cases(work, LOSSES, ("weighted",), ("float32",)), *cases(work, ("focal-2",), ("index",), ("bfloat16",))]
    if not work.tiny:
        found += cases(work, ("softmax", "focal-2"), ("soft",), ("float32",))
    for case in found:
        yield tried(_words(case), partial(_compiled, work, case))


def _compiled(work: Work, case: count.Case) -> None:
    data = count.batch(case.dtype, case.device, *SMALL)
    loss = count.ours(case, data)
    torch.compiler.reset()
    fast = torch.compile(lambda z: loss(z), fullgraph=True, backend=work.device.backend)
    _same(step(fast, data.logits), step(loss, data.logits), case)


def _same(got: tuple[Tensor, Tensor], expected: tuple[Tensor, Tensor], case: count.Case) -> None:
    half = case.dtype in ("float16", "bfloat16")
    torch.testing.assert_close(got[0], expected[0], rtol=1e-5, atol=1e-6)
    spacing = torch.finfo(expected[1].dtype).eps if half else 1e-5
    largest = float(expected[1].abs().max())
    torch.testing.assert_close(got[1], expected[1], rtol=2 * spacing, atol=largest * spacing)


def _words(case: count.Case) -> str:
    return f"{case.loss} {case.targets} {case.dtype}"


def step(loss: Callable[[Tensor], Tensor], logits: Tensor) -> tuple[Tensor, Tensor]:
    """Return value and gradient."""
    value = loss(logits)
    (gradient,) = torch.autograd.grad(value, logits)
    return value.detach(), gradient


def tried(case: str, action: Callable[[], object]) -> Row:
    """Return what became of a case, and the paths that our functions took in it."""
    row: Row = {"case": case}
    with recorded() as records:
        try:
            action()
        except Exception as error:
            row["error"] = _first_line(error)
    return row | _path(records)


def recorded() -> AbstractContextManager[list[Any]]:
    """Collect which paths our functions take, where the library can be asked."""
    paths: Any = getattr(cbcore_torch, "paths", None)
    taken: AbstractContextManager[list[Any]] = nullcontext([]) if paths is None else paths()
    return taken


def _path(records: Sequence[Any]) -> Row:
    if not records:
        return {}
    return {"path": ", ".join(dict.fromkeys(str(one.path) for one in records)), "refused": dict(records[-1].refused)}


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0] if lines else ''}"[:300]


# ---------------------------------------------------------------- times


@dataclass(frozen=True)
class Batch:
    """Logits made on the device, and long-tailed labels and weights."""

    problem: Problem
    logits: Tensor
    labels: Tensor
    weights: Tensor


Makers: TypeAlias = dict[str, dict[str, Callable[[Work, Batch], Any]]]  # of candidates, by the family of the loss


def timed(work: Work) -> Iterator[Row]:
    """Time ours against the peers, losses one after another; what has to be compiled comes last."""
    import cbcore

    rows, classes = work.shape
    counts = torch.from_numpy(cbcore.long_tailed_counts(1000, classes, 100)).to(work.device.name)
    weights = torch.from_numpy(cbcore.class_weights(counts.cpu().numpy(), BETA)).to(work.device.name, torch.float32)
    torch.manual_seed(0)
    labels = torch.multinomial(counts.float(), rows, replacement=True)
    logits = torch.randn(rows, classes, device=work.device.name, dtype=getattr(torch, work.dtype)) * 2
    logits.requires_grad_()
    losses = LOSSES[::2] if work.tiny else LOSSES
    batches = [Batch(Problem(loss, rows, classes, work.dtype), logits, labels, weights) for loss in losses]
    passes: tuple[Makers, ...] = (EAGER, COMPILED, OURS_COMPILED)
    for makers, batch in itertools.product(passes, batches):
        found = makers[batch.problem.family]
        if batch.problem.size > GRAPH_LIMIT:
            found = {name: make for name, make in found.items() if make is not _ours_in_a_graph}
        yield from _raced(work, batch, found)


def _raced(work: Work, batch: Batch, makers: dict[str, Callable[..., Any]]) -> Iterator[Row]:
    """Time ours and some peers in turn; each has to give our loss and gradient first."""
    problem = batch.problem
    title: Row = {"loss": problem.loss, "logits": f"{problem.rows}x{problem.classes}", "dtype": problem.dtype}
    try:
        with recorded() as records:
            reference = step(_ours(work, batch), batch.logits)
    except Exception as error:
        yield {**title, "candidate": "cbcore", "error": _first_line(error)}
        return
    found: list[Candidate] = []
    memory: dict[str, int | None] = {}
    for name, make in {"cbcore": _ours, **makers}.items():
        try:
            candidate = _candidate(work, name, make(work, batch), batch)
            _check(candidate, reference, TOLERANCE[problem.dtype])
            memory[name] = work.device.extra_memory(candidate)
            found.append(candidate)
        except MissingError as reason:
            yield {**title, "candidate": name, "note": str(reason)}
        except Exception as error:
            yield {**title, "candidate": name, "error" if "cbcore" in name else "note": _first_line(error)}
    del reference
    if not found or found[0].name != "cbcore":
        return
    timings = measure([*found, work.device.copy_floor(problem)], TINY if work.tiny else PLAN).timings
    floor, ours = timings["copy"].seconds.median, timings["cbcore"].seconds.median
    for one in found:
        median, fastest, _ = timings[one.key].seconds
        extra = memory[one.name]
        yield {
            **title, "candidate": one.name, "seconds": median, "fastest": fastest, "copies": round(median / floor, 3),
            "ratio": round(median / ours, 3), "memory": None if extra is None else round(extra / problem.bytes, 3),
            **(_path(records) if one.name == "cbcore" else {}),
        }  # fmt: skip


def _check(candidate: Candidate, reference: tuple[Tensor, Tensor], tolerance: float) -> None:
    """Raise if a candidate computes something else, or takes so long that it would cost the others their time."""
    error = _deviation(candidate.step(), reference)
    if error > tolerance:
        raise ValueError(f"off by {error:.2g}")
    begin = time.perf_counter()
    candidate.step()
    candidate.finish()
    seconds = time.perf_counter() - begin
    if seconds > SLOW and candidate.name != "cbcore":
        raise TimeoutError(f"{duration(seconds)} a step")


def _candidate(work: Work, name: str, loss: Callable[..., Any], batch: Batch) -> Candidate:
    """Return a candidate of a loss, or of what is a step already."""
    take = loss.run if isinstance(loss, Ready) else partial(step, loss, batch.logits)
    return Candidate("peer", name, "", take, lambda _: Outcome(0.0, None), finish=work.device.finish)


@dataclass(frozen=True)
class Ready:
    """A step that has its logits already."""

    run: Callable[[], Any]


def _deviation(got: tuple[Tensor, Tensor], expected: tuple[Tensor, Tensor]) -> float:
    """As `benchmarks.problem.deviation`, on the device."""
    norm = partial(torch.linalg.vector_norm, dtype=torch.float32)
    error = max(
        float((got[0].float() - expected[0].float()).abs() / expected[0].float().abs()),
        float(norm(got[1] - expected[1]) / norm(expected[1])),
    )
    return error if error == error else float("inf")


def _ours(_: Work, batch: Batch) -> Callable[[Tensor], Tensor]:
    options = {"gamma": batch.problem.gamma} if batch.problem.family == "focal" else {}
    loss = count.FUNCTIONS[batch.problem.family]
    return partial(loss, target=batch.labels, class_weights=batch.weights, **options)


def _ours_in_a_graph(work: Work, batch: Batch) -> Ready:
    output, replay = work.device.captured(partial(step, _ours(work, batch), batch.logits))

    def run() -> tuple[Tensor, Tensor]:
        replay()
        return output

    return Ready(run)


def _ours_compiled(work: Work, batch: Batch) -> Callable[[Tensor], Tensor]:
    loss = _ours(work, batch)
    return _compile(work, lambda z: loss(z))


def _compile(work: Work, loss: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    return torch.compile(loss, fullgraph=True, dynamic=False, backend=work.device.backend)


def _cross_entropy(_: Work, batch: Batch) -> Callable[[Tensor], Tensor]:
    weights = batch.weights.to(batch.logits.dtype)
    return lambda z: functional.cross_entropy(z, batch.labels, weights, reduction="sum") / len(z)


def _cross_entropy_compiled(work: Work, batch: Batch) -> Callable[[Tensor], Tensor]:
    return _compile(work, _cross_entropy(work, batch))


def _iota_compiled(work: Work, batch: Batch) -> Callable[[Tensor], Tensor]:
    problem, labels, weights = batch.problem, batch.labels, batch.weights
    return _compile(work, lambda z: formulas.iota(z, labels, weights, problem.family, problem.gamma))


def _liger(_: Work, batch: Batch) -> Ready:
    """Return Liger's, which leaves the gradient in the logits: its steps after the first work on what it left."""
    loss = optional("liger_kernel.transformers.functional").liger_cross_entropy
    own = batch.logits.detach().clone().requires_grad_()
    return Ready(lambda: step(lambda z: loss(z, batch.labels, batch.weights, reduction="sum") / len(z), own))


def _one_vs_all(term: Callable[..., Tensor], _: Work, batch: Batch) -> Callable[[Tensor], Tensor]:
    options = {"gamma": batch.problem.gamma} if batch.problem.family == "focal" else {}

    def loss(z: Tensor) -> Tensor:
        rows = term(z, formulas.one_hot(batch.labels, z), **options).sum(1)
        return (rows * batch.weights[batch.labels]).mean()

    return loss


EAGER: Makers = {
    "softmax": {
        "cbcore, in a CUDA graph": _ours_in_a_graph,
        "F.cross_entropy(weight)": _cross_entropy,
        "Liger, in place": _liger,
    },
    "sigmoid": {
        "cbcore, in a CUDA graph": _ours_in_a_graph,
        "BCE, one-hot": partial(_one_vs_all, formulas.bce),
    },
    "focal": {
        "cbcore, in a CUDA graph": _ours_in_a_graph,
        "torchvision's formula": partial(_one_vs_all, formulas.torchvision_focal),
        "kornia's formula": partial(_one_vs_all, formulas.kornia_focal),
    },
}
COMPILED: Makers = {
    family: {
        "torch.compile(iota compare)": _iota_compiled,
        **({"torch.compile(F.cross_entropy)": _cross_entropy_compiled} if family == "softmax" else {}),
    }
    for family in EAGER
}
OURS_COMPILED: Makers = {family: {"torch.compile(cbcore)": _ours_compiled} for family in EAGER}
PARTS: dict[str, Callable[[Work], Iterator[Row]]] = {
    "correctness": correctness, "waits": waits, "graphs": graphs, "compile": compiled, "times": timed,
}  # fmt: skip


# ---------------------------------------------------------------- parts, each in its own process


def parts(tiny: bool) -> list[tuple[str, list[str]]]:
    """Return the parts in order, each with the arguments of its process."""
    found: list[tuple[str, list[str]]] = [(name, []) for name in PARTS if name != "times"]
    for (rows, classes), dtype in itertools.product(TINY_SHAPES if tiny else SHAPES, DTYPES[tiny:]):
        found.append((f"times {rows}x{classes} {dtype}", ["--shape", str(rows), str(classes), "--dtype", dtype]))
    return found


def in_child(name: str, arguments: Sequence[str], seconds: float) -> Result:
    """Run one part in a process of its own, and end it and all that it started when its time is over."""
    command = [sys.executable, "-m", "benchmarks.gpu", "--part", name.split()[0], *arguments]
    begin = time.perf_counter()
    with tempfile.TemporaryFile("w+") as said, tempfile.TemporaryFile("w+") as complained:  # no pipe that may fill
        child = subprocess.Popen(command, cwd=ROOT, stdout=said, stderr=complained, start_new_session=True)
        try:
            code: int | None = child.wait(seconds)
        except subprocess.TimeoutExpired:
            code = None
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
            child.wait()
        said.seek(0)
        complained.seek(0)
        rows = [json.loads(line) for line in said if line.startswith("{") and line.endswith("}\n")]
        last = (complained.read().strip().splitlines() or [""])[-1]
    state = "done" if code == 0 else f"ended after {seconds:g} s" if code is None else f"failed ({code}): {last[:300]}"
    return Result(name, state, round(time.perf_counter() - begin, 1), rows)


def page(header: dict[str, str], results: Sequence[Result]) -> str:
    """Return the page."""
    facts = "\n".join(f"- {name}: {value}" for name, value in header.items())
    return "\n\n".join([PAGE.format(**header).rstrip(), facts, *map(section, results)]) + "\n"


def section(result: Result) -> str:
    """Return what one part said: times as a table, of the others what failed and which paths were taken."""
    lines = [f"## {result.name[0].upper()}{result.name[1:]}", f"{result.state}, {result.seconds:.0f} s"]
    timings = [row for row in result.rows if "seconds" in row]
    if timings:
        lines.append(markdown(HEADERS, [cells(row) for row in timings]))
    looked = [row for row in result.rows if "case" in row and "note" not in row]
    if looked:
        lines.append(f"{sum('error' not in row for row in looked)} of {len(looked)} right")
    paths = Counter(row["path"] for row in looked if "path" in row)
    refusals = {f"{name} refused: {reason}" for row in timings for name, reason in row.get("refused", {}).items()}
    said = [f"{_title(row)}: {row.get('note') or row['error']}" for row in result.rows if {"note", "error"} & set(row)]
    notes = [*(f"{path}: {number}" for path, number in paths.items()), *sorted(refusals), *said]
    return "\n\n".join([*lines, *(["\n".join(f"- {note}" for note in notes)] if notes else [])])


HEADERS = ("loss", "logits", "dtype", "candidate", "path", "time (min)", "x copy", "ratio", "memory")


def cells(row: Row) -> tuple[str, ...]:
    """Return the cells of one candidate, with what is asked of ours."""
    asked = ratio = ""
    if row["candidate"] == "cbcore":
        rows, classes = map(int, row["logits"].split("x"))
        limit = GPU_SECONDS.get((row["loss"].split("-")[0], rows, classes, row["dtype"]))
        asked = "" if limit is None else f" (≤ {duration(limit)} {'met' if row['seconds'] <= limit else 'MISSED'})"
    elif row["candidate"] == "torchvision's formula" and row["logits"] == "8192x100000":
        ratio = f" (≥ {GPU_FOCAL_RATIO:g} {'met' if row['ratio'] >= GPU_FOCAL_RATIO else 'MISSED'})"
    return (
        row["loss"], row["logits"], row["dtype"], row["candidate"], row.get("path", ""),
        f"{duration(row['seconds'])} ({duration(row['fastest'])}){asked}", times(row["copies"]),
        times(row["ratio"]) + ratio, "" if row["memory"] is None else f"{row['memory']:.3f}",
    )  # fmt: skip


def _title(row: Row) -> str:
    return row.get("case") or " ".join(str(row[key]) for key in ("loss", "logits", "dtype", "candidate"))


def main(argv: Sequence[str] | None = None) -> None:
    """Look at the losses on a GPU, and time them."""
    options = parse(argv)
    if options.part:
        work = Work(cuda.device(options.device), options.tiny, tuple(options.shape), options.dtype)
        for row in PARTS[options.part](work):
            print(json.dumps(row), flush=True)
        return
    out = options.out or (None if options.tiny else ROOT / "benchmarks" / "results" / "gpu.md")
    if options.device == "cuda" and not torch.cuda.is_available():
        print(NOT_RUN)
        if out is not None and not out.with_suffix(".json").exists():  # what a GPU has said stays
            out.write_text(NOT_RUN)
        return
    header = {**cuda.device(options.device).describe(), **machine.header()}
    results = []
    for name, arguments in parts(options.tiny):
        passed = [*arguments, "--device", options.device, *(["--tiny"] if options.tiny else [])]
        results.append(in_child(name, passed, SECONDS[name.split()[0]]))
        print(section(results[-1]) + "\n", flush=True)
    if out is not None:
        out.write_text(page(header, results))
        out.with_suffix(".json").write_text(_json(header, results))
    if any(result.failures or result.state.startswith("failed") or not result.rows for result in results):
        raise SystemExit("not everything was right: see above")


def _json(header: dict[str, str], results: Sequence[Result]) -> str:
    texts = []
    for result in results:
        about = asdict(result)
        rows = ",\n".join(json.dumps(row) for row in about.pop("rows"))
        texts.append(f'{json.dumps(about)[:-1]}, "rows": [\n{rows}\n]}}')
    return f'{{"header": {json.dumps(header)}, "parts": [\n' + ",\n".join(texts) + "\n]}\n"


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=main.__doc__)
    add = parser.add_argument
    add("--device", choices=("cuda", "cpu"), default="cuda", help="cpu: a rehearsal, with --tiny")
    add("--tiny", action="store_true", help="small logits, a part of the table: shows that everything runs")
    add("--out", type=Path, help="page to write (.md), JSON beside it")
    add("--part", choices=PARTS, help="one part alone, in this process, a row a line")
    add("--shape", type=int, nargs=2, default=TINY_SHAPES[0])
    add("--dtype", choices=DTYPES, default="float32")
    options = parser.parse_args(argv)
    if options.device == "cpu" and not options.tiny:
        parser.error("--device cpu is a rehearsal: add --tiny")
    return options


if __name__ == "__main__":
    main()
