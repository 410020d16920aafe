"""The command line of ``experiments.train``: the knobs of a recipe, and how and where it runs."""

import argparse
import math
from collections.abc import Callable, Sequence
from pathlib import Path

from experiments.recipe import CIFAR, LARGE, LOSSES, PRECISIONS, Recipe, defaults


def parse(argv: Sequence[str] | None, description: str | None = None) -> tuple[Recipe, argparse.Namespace]:
    """Read the command line: the recipe, and how and where it runs."""
    parser = make_parser(description)
    options = parser.parse_args(argv)
    for name, datasets in (("imbalance", CIFAR), ("max_count", CIFAR), ("image_size", LARGE)):
        if getattr(options, name) is not None and options.dataset not in datasets:
            parser.error(f"--{name.replace('_', '-')} is for {', '.join(datasets)}, got --dataset {options.dataset}")
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


def make_parser(description: str | None) -> argparse.ArgumentParser:
    """Return the parser; a knob that is not given has the paper's value for the data set."""
    parser = argparse.ArgumentParser(prog="python -m experiments.train", description=description)
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
    add("--learning-rate", type=number(float, 0), help="(0.1; large images 0.1 B/256, focal x2 or x4)")
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
    add("--workers", type=number(int, 0), default=8, help="processes that read large images (8)")
    add("--compile", action="store_true", help="use torch.compile")
    add("--eval-every", type=number(int, 1), default=1, help="epochs between tests; the last is always tested (1)")
    add("--save-minutes", type=number(float, 0), default=10.0, help="between checkpoints within an epoch (10)")
    return parser


def number(kind: Callable[[str], float], low: float, high: float = math.inf) -> Callable[[str], float]:
    """Return a reader of numbers from low to high."""
    # Written in examples/digits too: a shared home would be a module for two commands in the library
    # or a folder that both need, and either folder runs alone. A test keeps the two alike.

    def read(text: str) -> float:
        what = "a whole number" if kind is int else "a finite number"
        span = f"at least {low:g}" if high == math.inf else f"from {low:g} to {high:g}"
        try:
            value = kind(text)
        except ValueError:
            value = math.nan
        if not (low <= value <= high and math.isfinite(value)):
            raise argparse.ArgumentTypeError(f"must be {what} {span}, got {text!r}")
        return value

    return read
