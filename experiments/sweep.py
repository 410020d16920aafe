"""Train a grid of cells: ``python -m experiments.sweep --dataset cifar10 --data DIR --losses softmax --betas 0 0.99``.

Cells whose result is there are skipped, and a cell that was stopped goes on, so the same command can be given again
at any time. Options that are not named below are those of ``experiments.train`` and hold for every cell.
"""

import argparse
import itertools
import shlex
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np

from experiments import engine, files
from experiments.options import number, parse
from experiments.recipe import LOSSES, Recipe

LOGITS_BYTES = 1 << 22  # of a test set whose logits are kept beside the result: CIFAR's are, iNaturalist's are not


class Cell(NamedTuple):
    """What one process trains."""

    recipe: Recipe
    arguments: list[str]
    work: Path
    result: Path


def main(argv: Sequence[str] | None = None) -> int:
    """Train the cells that have no result yet; return how many failed."""
    options, rest = make_parser().parse_known_args(argv)
    cells = [make_cell(arguments, options) for arguments in grid(options, rest)]
    try:
        left = [cell for cell in cells if not finished(cell)]
    except ValueError as error:
        raise SystemExit(f"error: {error}") from error
    if options.dry_run:
        for cell in left:
            print(shlex.join(["python", "-m", "experiments.train", *cell.arguments]))
        return 0
    print(f"{len(cells)} cells, {len(cells) - len(left)} finished, {len(left)} to train", flush=True)
    failed = run_all(left, options.jobs)
    for cell in failed:
        print(f"failed: {cell.recipe.cell}; see above, or {cell.work / 'output.txt'}", file=sys.stderr)
    return len(failed)


def grid(options: argparse.Namespace, rest: Sequence[str]) -> Iterator[list[str]]:
    """Yield the arguments of each cell, one seed after the other; gamma and deferral only where they mean something."""
    axes = (options.seeds, options.imbalances, options.losses, options.betas, options.gammas, options.drw)
    seen = set()
    for seed, imbalance, loss, beta, gamma, drw in itertools.product(*axes):
        arguments = ["--seed", f"{seed}", "--loss", loss, "--beta", f"{beta:.12g}"]
        arguments += [] if imbalance is None else ["--imbalance", f"{imbalance:.12g}"]
        arguments += ["--gamma", f"{gamma:.12g}"] if loss == "focal" and gamma is not None else []
        arguments += ["--drw"] if drw == "yes" and beta > 0 else []
        if tuple(arguments) not in seen:
            seen.add(tuple(arguments))
            yield [*arguments, *rest]


def make_cell(arguments: list[str], options: argparse.Namespace) -> Cell:
    """Return a cell; a mistake in its arguments ends the program."""
    recipe, _ = parse([*arguments, "--out", "out"])
    work = options.work / recipe.cell
    return Cell(recipe, [*arguments, "--out", str(work)], work, options.results / f"{recipe.cell}.json")


def finished(cell: Cell) -> bool:
    """Return whether the result is there, and check that it is this cell's."""
    if not cell.result.exists():
        return False
    engine.check_same(files.read_json(cell.result)["recipe"], cell.recipe.as_json(), "--results")
    return True


def run_all(cells: Sequence[Cell], jobs: int) -> list[Cell]:
    """Train the cells, `jobs` at a time; return those that failed."""
    stop = threading.Event()

    def work(cell: Cell) -> bool:
        return stop.is_set() or run_one(cell, own_terminal=jobs == 1)

    with ThreadPoolExecutor(jobs) as pool:
        try:
            done = list(pool.map(work, cells))
        except KeyboardInterrupt:  # the terminal tells the children too, and they end after their last checkpoint
            stop.set()
            print("\nStopped; the same command goes on.", file=sys.stderr)
            raise SystemExit(130) from None
    return [cell for cell, good in zip(cells, done, strict=True) if not good]


def run_one(cell: Cell, own_terminal: bool) -> bool:
    """Train one cell in a process of its own, and keep its result."""
    cell.work.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "experiments.train", *cell.arguments]
    if own_terminal:
        code = subprocess.run(command, check=False).returncode
    else:
        print(f"training {cell.recipe.cell}", flush=True)
        with (cell.work / "output.txt").open("a") as output:
            code = subprocess.run(command, stdout=output, stderr=subprocess.STDOUT, check=False).returncode
    if code == 0:
        cell.result.parent.mkdir(parents=True, exist_ok=True)
        logits = np.load(cell.work / "test_logits.npy", allow_pickle=False)
        if logits.nbytes <= LOGITS_BYTES:
            folder = cell.result.parent / "logits"
            folder.mkdir(exist_ok=True)
            files.write_array(folder / f"{cell.recipe.cell}.npy", logits)
        files.write_json(cell.result, files.read_json(cell.work / "result.json"))
        print(f"finished {cell.result}", flush=True)
    return code == 0


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the grid."""
    parser = argparse.ArgumentParser(
        prog="python -m experiments.sweep",
        description=__doc__,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--losses", choices=LOSSES, nargs="+", default=list(LOSSES), help="losses")
    add("--betas", type=number(float, 0, 1), nargs="+", default=[0, 0.9, 0.99, 0.999, 0.9999], help="0 is plain")
    add("--gammas", type=number(float, 0), nargs="+", default=[None], help="of the focal loss")
    add("--seeds", type=number(int, 0), nargs="+", default=[0], help="repetitions")
    add("--imbalances", type=number(float, 1), nargs="+", default=[None], help="factors, CIFAR only")
    add("--drw", choices=("no", "yes"), nargs="+", default=["no"], help="deferred re-weighting, where beta is above 0")
    add("--results", type=Path, default=Path("experiments/results"), help="folder for one JSON file a cell")
    add("--work", type=Path, default=Path("out/experiments"), help="folder for checkpoints and logs")
    add("--jobs", type=number(int, 1), default=1, help="cells trained at a time, on one GPU or with --threads 1")
    add("--dry-run", action="store_true", help="print the commands that are left, and train nothing")
    return parser


if __name__ == "__main__":
    sys.exit(main())
