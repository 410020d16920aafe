"""Command line: measure, print the tables, write the page of this machine."""

import argparse
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from importlib import import_module, util
from pathlib import Path

import numpy as np

from benchmarks import machine
from benchmarks.fresh import ROOT, in_child
from benchmarks.measure import FULL, TINY, Plan, measure
from benchmarks.problem import (
    DTYPES,
    LOSSES,
    RARE_LOSSES,
    RARE_SHAPES,
    SHAPES,
    TARGETS,
    USUAL,
    Candidate,
    Problem,
    deviation,
)
from benchmarks.records import Record, Run, merged, read_json, write_json
from benchmarks.table import page, section
from benchmarks.targets import HUGE

FRAMEWORKS = {"torch": "torch", "jax": "jax", "tf": "tensorflow", "numpy": "numpy"}
TINY_SHAPES = ((64, 300),)
TOLERANCE = {"float32": 1e-3, "bfloat16": 2e-2, "float16": 2e-2, "float64": 1e-3}  # of the halves peers round halfway
BALLAST = 16  # times the logits: what the hungriest peer holds


def main(argv: Sequence[str] | None = None) -> None:
    """Compare the losses with their peers on this machine."""
    options = parse(argv)
    if len(options.framework) > 1:  # each in its own process, so that their threads and heaps do not meet
        for framework in options.framework:
            command = [sys.executable, "-m", "benchmarks.run", *(sys.argv[1:] if argv is None else argv)]
            subprocess.run([*command, "--framework", framework], cwd=Path.cwd(), check=True)
        return
    run = run_framework(options.framework[0], options)
    print(section(run))
    out = options.out or (None if options.tiny else ROOT / "benchmarks" / "results" / f"{machine.name()}.md")
    if out is not None:
        write(run, out, options.json or out.with_suffix(".json"))
    elif options.json is not None:
        write_json(merged(read_json(options.json), run), options.json)


def write(run: Run, out: Path, store: Path) -> None:
    """Add a run to what was measured before, and write the page and the picture of all."""
    from benchmarks import plot

    out.parent.mkdir(parents=True, exist_ok=True)
    runs = merged(read_json(store), run)
    write_json(runs, store)
    plot.save(runs, out)
    out.write_text(page(runs, out.with_suffix(".svg").name))
    print(f"\nPage: {out}")


def run_framework(framework: str, options: argparse.Namespace) -> Run:
    """Measure everything that was asked of one framework."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # pages of what TensorFlow does not find
    module = import_module(f"benchmarks.candidates_{framework}")
    facts = machine.header()
    if options.device == "cuda":
        from benchmarks import cuda

        facts["GPU"] = cuda.name()
    paths = tuple(options.paths or module.DEFAULT_PATHS)
    if unknown := set(paths) - set(module.PATHS):
        raise SystemExit(f"--paths: {', '.join(sorted(unknown))} is not one of {', '.join(module.PATHS)}")
    problems = chosen(framework, options)
    notes, records = [], []
    if options.device == "cpu" and not machine.keep_heap_warm(BALLAST * max(problem.bytes for problem in problems)):
        notes.append("the heap was not kept warm: this malloc is not glibc's")
    for problem in problems:
        print(f"{framework} {problem}", file=sys.stderr, flush=True)
        candidates, remarks = module.candidates(problem, paths, options.device)
        right, wrong = checked(problem, candidates)
        new = timed(framework, options.device, problem, right, TINY if options.tiny else FULL)
        if options.device == "cpu" and (problem == problems[-1] if options.tiny else problem.size >= HUGE):
            # One for the memory; a second where it counts which is the faster one there.
            peers = 2 if problem.dtype == "float32" and not options.tiny else 1
            new = with_children(new, 1 if options.tiny else len(paths), peers)
        records += new
        notes += [remark for remark in [*remarks, *wrong] if remark not in notes]
    return Run(framework, options.device, facts, notes, records)


def chosen(framework: str, options: argparse.Namespace) -> list[Problem]:
    """Return the problems that are asked for; by default what is rare in a few shapes and losses, and not at once."""
    dtypes = options.dtypes or (DTYPES if framework == "torch" else ["float32"])
    targets = options.targets or (TARGETS if framework == "torch" else ["index"])
    exact = options.dtypes and options.targets
    kinds = [(d, t) for t in targets for d in dtypes if exact or d == "float32" or t == "index"]

    def problems(
        kinds: Sequence[tuple[str, str]], shapes: Sequence[tuple[int, int]], losses: Sequence[str]
    ) -> list[Problem]:
        shapes = options.shapes or (TINY_SHAPES if options.tiny else shapes)
        return [Problem(loss, n, c, d, t) for n, c in shapes for loss in options.losses or losses for d, t in kinds]

    usual = problems([kind for kind in kinds if kind in USUAL], SHAPES, LOSSES)
    return usual + problems([kind for kind in kinds if kind not in USUAL], RARE_SHAPES, RARE_LOSSES)


def checked(problem: Problem, candidates: Sequence[Candidate]) -> tuple[list[Candidate], list[str]]:
    """Return the candidates that compute the loss and the gradient of the first, and remarks on the others.

    Of those of another loss it is asked that theirs are finite.
    """
    right, wrong, reference = [], [], None
    for candidate in candidates:
        with candidate.during():
            outcome = candidate.read(candidate.step())
        reference = reference or outcome
        error = deviation(outcome, reference)
        if error <= TOLERANCE[problem.dtype] or (np.isfinite(error) and not candidate.is_same):
            right.append(candidate)
        else:
            reason = f"off by {error:.2g}" if np.isfinite(error) else "its loss or gradient is not finite"
            wrong.append(f"{candidate.key} left out of {problem}: {reason}")
    return right, wrong


def timed(framework: str, device: str, problem: Problem, candidates: Sequence[Candidate], plan: Plan) -> list[Record]:
    """Time the candidates of a problem, and the copy of its logits, against each other."""
    if not candidates:
        return []
    extra: dict[str, float] = {}
    if device == "cpu":
        copy = machine.copy_floor(problem)
    else:
        from benchmarks import cuda

        copy = cuda.copy_floor(problem)
        extra = {one.key: cuda.extra_memory(one) / problem.bytes for one in candidates}
    result = measure([*candidates, copy], plan)
    return [
        Record(
            framework, device, problem.loss, problem.rows, problem.classes, problem.dtype,
            one.kind, one.name, one.mode, *result.timings[one.key].seconds, result.timings[one.key].faults,
            result.kept, result.dropped, result.quiet, extra=extra.get(one.key), targets=problem.targets,
        )
        for one in [*candidates, copy]
    ]  # fmt: skip


def with_children(records: Sequence[Record], ours: int, peers: int) -> list[Record]:
    """Add what fresh processes take to our paths and to the fastest peers, spread evenly over their modes."""
    chosen = [record for record in records if record.kind == "ours"][:ours]
    modes = {record.mode for record in records if record.kind == "peer"}
    for mode in modes:
        same = [record for record in records if (record.kind, record.mode) == ("peer", mode)]
        chosen += sorted(same, key=lambda record: record.median)[: max(peers // len(modes), 1)]
    return [_with_child(record) if record in chosen else record for record in records]


def _with_child(record: Record) -> Record:
    result = in_child(record.framework, record.problem, record.name, record.mode)
    return replace(record, fresh=result.seconds, extra=result.extra / record.problem.bytes)


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    installed = [name for name, module in FRAMEWORKS.items() if util.find_spec(module)]
    parser = argparse.ArgumentParser(prog="python -m benchmarks.run", description=main.__doc__)
    add = parser.add_argument
    add("--framework", nargs="+", choices=installed, default=installed, help="default: all that are installed")
    add("--losses", nargs="+", type=_loss, help="softmax, sigmoid, focal-GAMMA")
    add("--shapes", nargs="+", type=_shape, help="ROWSxCLASSES")
    add("--dtypes", nargs="+", choices=list(DTYPES), help="default: all for torch, float32 for the others")
    add("--targets", nargs="+", choices=TARGETS, help="default: all for torch, index for the others")
    add("--paths", nargs="+", help='of ours: numba, "closed form", composite; graph, XLA')
    add("--device", choices=("cpu", "cuda"), default="cpu", help="cuda: of torch only")
    add("--tiny", action="store_true", help="small shapes, few rounds: shows that everything runs, times nothing")
    add("--out", type=Path, help="page to write (.md); CSV, JSON, PNG and SVG go beside it")
    add("--json", type=Path, help="where all runs are kept; default: beside the page")
    options = parser.parse_args(argv)
    if options.device != "cpu" and options.framework != ["torch"]:
        parser.error("--device cuda goes with --framework torch")
    only_torch = {"float16", "float64", "soft", "smoothed"} & {*(options.dtypes or ()), *(options.targets or ())}
    if only_torch and options.framework != ["torch"]:
        parser.error(f"{', '.join(sorted(only_torch))} must be measured with --framework torch")
    return options


def _loss(text: str) -> str:
    name, dash, gamma = text.partition("-")
    if not (text in LOSSES[:2] or (name == "focal" and dash and float(gamma) > 0)):
        raise argparse.ArgumentTypeError(f"must be softmax, sigmoid or focal-GAMMA with GAMMA > 0, got {text!r}")
    return text


def _shape(text: str) -> tuple[int, int]:
    try:
        rows, classes = map(int, text.split("x"))
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be ROWSxCLASSES, got {text!r}") from None
    return rows, classes


if __name__ == "__main__":
    main()
