"""Train one cell: ``python -m experiments.train --dataset cifar10 --data DIR --loss softmax --beta 0.9999 --out DIR``.

The same command goes on where it was stopped.
"""

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from experiments import cifar, engine, files, processes
from experiments.arguments import number
from experiments.display import Display
from experiments.hardware import hardware, versions
from experiments.recipe import CIFAR, LARGE, LOSSES, PRECISIONS, Recipe, defaults


def main(argv: Sequence[str] | None = None) -> int:
    """Train, test, and write ``result.json``, ``log.jsonl`` and ``checkpoint.pt`` into --out."""
    recipe, options = parse(argv)
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
        processes.stop(group)
    return 0


def run_cell(recipe: Recipe, options: argparse.Namespace, device: torch.device, group: processes.Processes) -> None:
    """Train what is left of a cell, unless it is finished."""
    out: Path = options.out
    out.mkdir(parents=True, exist_ok=True)
    display = Display(recipe, quiet=group.rank > 0)
    if (out / "result.json").exists():
        engine.check_same(files.read_json(out / "result.json")["recipe"], recipe.as_json(), "--out")
        display.say(f"{recipe.cell} is finished: {out / 'result.json'}")
        return
    data = cifar.load(options.data, recipe, device)
    run = engine.make_run(recipe, data, device, group, options.compile)
    if (out / "checkpoint.pt").exists():
        run.load_state(files.read_checkpoint(out / "checkpoint.pt", device))
        display.say(f"Going on after epoch {run.epoch} and {run.step} steps.")
    display.say(f"{recipe.cell}: training images per class {data.class_counts.tolist()}, {data.sizes[0]} in all")
    with display:
        metrics = train(run, out, display, options)
    if group.rank == 0:
        files.write_json(out / "result.json", result(run, metrics))
    display.say(f"{recipe.cell}: test error {100 * metrics['top1_error']:.2f} %, {run.seconds:.0f} s")


def train(run: engine.Run, out: Path, display: Display, options: argparse.Namespace) -> dict[str, Any]:
    """Train the epochs that are left; return the metrics of the last."""
    metrics = None
    saved = started = time.monotonic()

    def save() -> None:
        nonlocal saved
        saved = time.monotonic()
        if run.processes.rank == 0:
            files.write_checkpoint(out / "checkpoint.pt", run.state())
            files.write_lines(out / "log.jsonl", run.history)

    def after_step(run: engine.Run) -> None:
        nonlocal started
        display.step(run)
        if time.monotonic() - saved > 60 * options.save_minutes and run.step < run.steps:
            run.seconds, started = run.seconds + time.monotonic() - started, time.monotonic()
            save()

    while run.epoch < run.recipe.epochs:
        loss = engine.train_epoch(run, after_step)
        due = (run.epoch + 1) % options.eval_every == 0 or run.epoch + 1 == run.recipe.epochs
        metrics = engine.test(run) if due else None
        engine.end_epoch(run, loss, metrics, started)
        started = time.monotonic()
        save()
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


def parse(argv: Sequence[str] | None) -> tuple[Recipe, argparse.Namespace]:
    """Read the command line: the recipe, and how and where it runs."""
    parser = make_parser()
    options = parser.parse_args(argv)
    knobs = defaults(options.dataset, options.loss, options.epochs, options.batch_size)
    given = {name: getattr(options, name) for name in knobs if getattr(options, name) is not None}
    knobs |= given
    knobs["milestones"] = tuple(knobs["milestones"])
    small = options.dataset in CIFAR
    gamma = (1.0 if small else 0.5) if options.gamma is None else options.gamma
    recipe = Recipe(
        dataset=options.dataset,
        loss=options.loss,
        beta=options.beta,
        gamma=gamma if options.loss == "focal" else None,
        seed=options.seed,
        drw_epoch=knobs["milestones"][0] if options.drw else None,
        precision=options.precision,
        sync_bn=options.sync_bn,
        **knobs,
    )
    return recipe, options


def make_parser() -> argparse.ArgumentParser:
    """Return the parser; a knob that is not given has the paper's value for the data set."""
    parser = argparse.ArgumentParser(prog="python -m experiments.train", description=__doc__)
    add, yes_no = parser.add_argument, argparse.BooleanOptionalAction
    add("--dataset", choices=(*CIFAR, *LARGE), required=True)
    add("--data", type=Path, required=True, help="folder with the unpacked archive")
    add("--out", type=Path, required=True, help="folder for checkpoint, log and result")
    add("--loss", choices=LOSSES, required=True)
    add("--beta", type=number(float, 0, 1), required=True, help="of the class weights; 0 is the plain loss")
    add("--gamma", type=number(float, 0), help="of the focal loss (1; large images 0.5)")
    add("--seed", type=number(int, 0), default=0, help="of subset, weights, order and augmentation (0)")
    add("--epochs", type=number(int, 1), help="the schedule is scaled to them (200; large images 90)")
    add("--drw", action="store_true", help="class weights only after the first milestone")
    knobs = parser.add_argument_group("knobs", "with the paper's values as defaults")
    add = knobs.add_argument
    add("--imbalance", type=number(float, 1), help="largest class over smallest, CIFAR only (100)")
    add("--max-count", type=number(int, 1), help="training images of class 0, CIFAR only (5000; CIFAR-100 500)")
    add("--depth", type=number(int, 8), help="layers of the network (32; large images 50, 101 or 152)")
    add("--image-size", type=number(int, 32), help="side of the input in pixels, large images only (224)")
    add("--batch-size", type=number(int, 1), help="over all processes (128; large images 1024)")
    add("--learning-rate", type=number(float, 0), help="(0.1; large images 0.1 B / 256, focal x2 ILSVRC, x4 iNaturalist)")
    add("--momentum", type=number(float, 0, 1), help="(0.9)")
    add("--nesterov", action=yes_no, default=None, help="(no; large images yes)")
    add("--weight-decay", type=number(float, 0), help="(2e-4; large images 1e-4)")
    add("--decay-norms", action=yes_no, default=None, help="decay normalisation layers too (yes; large images no)")
    add("--warmup-epochs", type=number(float, 0), help="(5 of 200; large images 5 of 90)")
    add("--milestones", type=number(int, 0), nargs="+", help="(160 180 of 200; large images 30 60 80 of 90)")
    add("--decay", type=number(float, 0, 1), help="of the learning rate at a milestone (0.01; large images 0.1)")
    add("--precision", choices=PRECISIONS, default="float32", help="of the network (float32)")
    add("--sync-bn", action="store_true", help="batch statistics over all processes")
    running = parser.add_argument_group("running", "which should not change the result")
    add = running.add_argument
    add("--device", help="cpu or cuda (a GPU if there is one)")
    add("--threads", type=number(int, 1), help="of the CPU (all cores)")
    add("--compile", action="store_true", help="use torch.compile")
    add("--eval-every", type=number(int, 1), default=1, help="epochs between tests; the last is always tested (1)")
    add("--save-minutes", type=number(float, 0), default=10.0, help="between checkpoints within an epoch (10)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
