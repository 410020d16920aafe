"""Train one cell: ``python -m experiments.train --dataset cifar10 --data DIR --loss softmax --beta 0.9999 --out DIR``.

The same command goes on where it was stopped.
"""

import argparse
import sys
import time
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch

from experiments import cifar, engine, files, images, processes
from experiments.build import make_run
from experiments.display import Display
from experiments.hardware import hardware, versions
from experiments.options import parse
from experiments.recipe import CIFAR, Recipe


def main(argv: Sequence[str] | None = None) -> int:
    """Train, test, and write ``result.json``, ``test_logits.npy``, ``log.jsonl`` and ``checkpoint.pt`` into --out."""
    recipe, options = parse(argv, __doc__)
    device = processes.pick_device(options.device)
    if options.threads:
        torch.set_num_threads(options.threads)
    group = processes.start(device)
    try:
        run_cell(recipe, options, device, group)
    except KeyboardInterrupt:
        print("\nStopped; the same command goes on from the last checkpoint.", file=sys.stderr)
        return 130
    except (OSError, ValueError, FloatingPointError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    finally:
        processes.stop()
    return 0


def run_cell(recipe: Recipe, options: argparse.Namespace, device: torch.device, group: processes.Processes) -> None:
    """Train what is left of a cell and write its result, unless it is finished."""
    out: Path = options.out
    out.mkdir(parents=True, exist_ok=True)
    display = Display(recipe, quiet=group.rank > 0)
    if (out / "result.json").exists():
        engine.check_same(files.read_json(out / "result.json")["recipe"], recipe.as_json(), "--out")
        display.say(f"{recipe.cell} is finished: {out / 'result.json'}")
        return
    with files.locked(out) if group.rank == 0 else nullcontext():
        data = load(recipe, options, device)
        run = make_run(recipe, data, device, group, options.compile)
        resume(run, out, display)
        n = data.class_counts
        shown = n.tolist() if len(n) <= 100 else f"{n.min()} to {n.max()} in {len(n)} classes"
        display.say(f"{recipe.cell}: training images per class {shown}, {n.sum()} in all")
        with display:
            metrics = train(run, Keeper(out, options.save_minutes), display, options.eval_every)
        logits = engine.test_logits(run)
        if group.rank == 0:
            files.write_array(out / "test_logits.npy", logits)
            files.write_json(out / "result.json", result(run, metrics))
    display.say(f"{recipe.cell}: test error {100 * metrics['top1_error']:.2f} %, {run.seconds:.0f} s")


def load(recipe: Recipe, options: argparse.Namespace, device: torch.device) -> engine.Data:
    """Read the data set, or the list of its images."""
    if recipe.dataset in CIFAR:
        return cifar.load(options.data, recipe, device)
    return images.load(options.data, recipe, device, options.workers)


def resume(run: engine.Run, out: Path, display: Display) -> None:
    """Go on from the checkpoint, if there is one."""
    if (out / "checkpoint.pt").exists():
        run.load_state(files.read_checkpoint(out / "checkpoint.pt", run.device))
        display.say(f"Going on after epoch {run.epoch} and {run.step} steps.")


class Keeper:
    """Writes checkpoints: after every epoch, and within one when the last is some minutes old."""

    def __init__(self, out: Path, minutes: float) -> None:
        self.out, self.minutes, self.last = out, minutes, time.monotonic()

    def save(self, run: engine.Run) -> None:
        """Write a checkpoint, then the log, which is made from it."""
        self.last = time.monotonic()
        if run.processes.rank == 0:
            files.write_checkpoint(self.out / "checkpoint.pt", run.state())
            files.write_lines(self.out / "log.jsonl", run.history)

    def save_if_due(self, run: engine.Run) -> None:
        """Write a checkpoint if the last is old."""
        if time.monotonic() - self.last > 60 * self.minutes:
            self.save(run)


def train(run: engine.Run, keeper: Keeper, display: Display, eval_every: int) -> dict[str, Any]:
    """Train the epochs that are left; return the metrics of the last."""

    def after_step(run: engine.Run) -> None:
        display.step(run)
        keeper.save_if_due(run)

    metrics = None
    while run.epoch < run.recipe.epochs:
        loss = engine.train_epoch(run, after_step)
        due = (run.epoch + 1) % eval_every == 0 or run.epoch + 1 == run.recipe.epochs
        metrics = engine.test(run) if due else None
        engine.end_epoch(run, loss, metrics)
        keeper.save(run)
        display.epoch(run)
    return metrics or engine.test(run)


def result(run: engine.Run, metrics: dict[str, Any]) -> dict[str, Any]:
    """Return all that is kept of a finished cell."""
    return {
        "cell": run.recipe.cell,
        "recipe": run.recipe.as_json(),
        "data": {
            "train_images": run.data.sizes[0],
            "test_images": run.data.sizes[1],
            "class_counts": run.data.class_counts.tolist(),
            "available_counts": run.data.available_counts.tolist(),
            "sha256": run.data.digest,
        },
        "metrics": metrics,
        "history": run.history,
        "versions": versions(),
        "hardware": hardware(run.device, run.processes.size),
        "wall_seconds": round(run.seconds, 1),
    }


if __name__ == "__main__":
    sys.exit(main())
