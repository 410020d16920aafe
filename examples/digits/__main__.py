"""Command line of the demonstration."""

import argparse
import importlib
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeAlias

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

import cbcore
from examples.digits.data import NUM_CLASSES, TRAIN_PER_CLASS, Floats, Problem, make_problem
from examples.digits.figure import save_figure
from examples.digits.metrics import Scores, evaluate
from examples.digits.recipe import LOSSES, WEIGHTINGS, Loss, Recipe, Weighting
from examples.digits.report import SCORE_NOTES, Results, class_table, conclusion, headline, score_table

Train: TypeAlias = Callable[[Problem, Loss, Weighting, Recipe], tuple[Floats, list[float]]]

FRAMEWORKS = ("torch", "jax", "tf")


def main(argv: Sequence[str] | None = None) -> None:
    """Train, print the tables, draw the figure and say what was seen."""
    options = parse(argv)
    options.out.parent.mkdir(parents=True, exist_ok=True)  # before the work, not after it
    recipe = Recipe(epochs=options.epochs, beta=options.beta, gamma=options.gamma)
    train: Train = importlib.import_module(f"examples.digits.train_{options.framework}").train
    problems = [make_problem(seed, options.imbalance, recipe) for seed in range(options.seeds)]
    class_counts = problems[0].class_counts
    console = Console(highlight=False)
    console.print(headline(problems[0], options.imbalance), end="\n\n")
    console.print(class_table(class_counts, recipe.beta))
    results = run(train, problems, recipe)
    console.print(score_table(results))
    console.print(SCORE_NOTES, style="dim")
    save_figure(results, class_counts, recipe.beta, options.out)
    console.print(f"\n{conclusion(results)}\n")
    console.print(f"Figure: {options.out}", soft_wrap=True, markup=False)  # a path is printed as it is


def run(train: Train, problems: Sequence[Problem], recipe: Recipe) -> Results:
    """Train every loss with every weighting on every seed, behind a progress bar."""
    results: dict[tuple[Loss, Weighting], list[Scores]] = {(loss, w): [] for loss in LOSSES for w in WEIGHTINGS}
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    # The bar goes to the error stream: a pipe gets the tables only.
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task("Training networks", total=len(problems) * len(results))
        for problem in problems:
            for (loss, weighting), scores in results.items():
                logits, _ = train(problem, loss, weighting, recipe)
                scores.append(evaluate(logits, problem.test_labels, problem.class_counts))
                progress.advance(task)
    return results


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line; a bad option ends the program with the reason."""
    parser = argparse.ArgumentParser(
        prog="python -m examples.digits",
        description=main.__doc__,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add, default = parser.add_argument, Recipe()
    add("--imbalance", type=_imbalance, default=100.0, help="largest class over smallest")
    add("--beta", type=_bounded(float, 0, 1), default=default.beta, help="of the class weights, in [0, 1]")
    add("--gamma", type=_bounded(float, 0), default=default.gamma, help="of the focal loss, >= 0")
    add("--seeds", type=_bounded(int, 2), default=10, help="number of repetitions, >= 2")
    add("--epochs", type=_bounded(int, 1), default=default.epochs, help="passes over the training set, >= 1")
    add("--out", type=_png, default=Path("out/digits.png"), help="figure to write")
    add("--framework", choices=FRAMEWORKS, default="torch", help="that trains")
    return parser.parse_args(argv)


def _bounded(kind: Callable[[str], float], low: float, high: float = math.inf) -> Callable[[str], float]:
    """Return a reader of numbers from low to high, for argparse."""
    # Written in experiments too: a shared home would be a module for two commands in the library
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


def _imbalance(text: str) -> float:
    value = _bounded(float, 1)(text)
    if cbcore.long_tailed_counts(TRAIN_PER_CLASS, NUM_CLASSES, value)[-1] < 1:
        reason = f"the smallest class would be empty (the largest has {TRAIN_PER_CLASS} samples)"
        raise argparse.ArgumentTypeError(f"must be at most {TRAIN_PER_CLASS}, got {text}: {reason}")
    return value


def _png(text: str) -> Path:
    path = Path(text)
    if path.suffix.lower() != ".png" or path.is_dir():
        raise argparse.ArgumentTypeError(f"must be the name of a .png file, got {text!r}")
    return path


if __name__ == "__main__":
    main()
