"""What the reader sees: two tables and the conclusion in words. Pure functions of the scores."""

import math
from collections.abc import Mapping, Sequence
from typing import TypeAlias

import numpy as np
from rich.box import SIMPLE
from rich.table import Table

import cbcore
from examples.digits.data import Problem
from examples.digits.metrics import Array, Integers, Scores, is_clear, mean_and_error, shot_groups
from examples.digits.recipe import LOSSES, Loss, Weighting

Results: TypeAlias = Mapping[tuple[Loss, Weighting], Sequence[Scores]]

COLUMNS = {
    "accuracy": "Accuracy,\ntrain mix",
    "balanced_accuracy": "Balanced\naccuracy",
    "macro_f1": "Macro-F1",
    "many": "Many\n> 100",
    "medium": "Medium\n20-100",
    "few": "Few\n< 20",
}
FEWEST_SEEDS = 5
SCORE_NOTES = f"""\
* Best of its column or not clearly below it (pairs of seeds, 95 % t interval);
  unmarked where all rows are alike or seeds are fewer than {FEWEST_SEEDS}.
Many, medium, few: mean recall of the classes with so many training samples.
Accuracy on the balanced test set is the balanced accuracy. "Train mix" counts
each test image by the training samples of its class."""


def headline(problem: Problem, imbalance: float) -> str:
    """Return what is trained on, in one line."""
    factor = cbcore.imbalance_factor(problem.class_counts)
    asked = "" if math.isclose(factor, imbalance) else f" (asked: {imbalance:g}; counts are rounded down)"
    sizes = f"{len(problem.train_labels)} training images, {len(problem.test_labels)} test images"
    return f"Long-tailed digits: {sizes}.\nLargest class / smallest: {factor:.4g}{asked}."


def class_table(class_counts: Integers, beta: float) -> Table:
    """Return counts, effective numbers and weights of the classes."""
    table = Table(title=f"Class weights, β = {beta:g}", box=SIMPLE, title_justify="left")
    for header in ("Digit", "Training\nsamples", "Effective\nnumber", "Class\nweight"):
        table.add_column(header, justify="right", vertical="bottom")
    table.add_column("Shots", vertical="bottom")
    shots = {int(label): name for name, group in shot_groups(class_counts).items() for label in np.flatnonzero(group)}
    numbers, weights = cbcore.effective_number(class_counts, beta), cbcore.class_weights(class_counts, beta)
    for label, (count, number, weight) in enumerate(zip(class_counts, numbers, weights, strict=True)):
        table.add_row(str(label), str(count), f"{number:.2f}", f"{weight:.3f}", shots[label])
    return table


def score_table(results: Results) -> Table:
    """Return every score of every loss and weighting, in percent: mean ± standard error over seeds."""
    seeds = len(next(iter(results.values())))
    title = f"Test set, %: mean ± standard error over {seeds} seeds"
    table = Table(title=title, box=SIMPLE, padding=0, title_justify="left")
    table.add_column("Loss", no_wrap=True, vertical="bottom")
    for header in COLUMNS.values():
        table.add_column(header, justify="right", no_wrap=True, vertical="bottom")
    best = {name: among_best(results, name) for name in COLUMNS}
    for loss, weighting in results:
        if weighting == "plain":
            table.add_row(loss)
        cells = [_cell(values(results, loss, weighting, name), (loss, weighting) in best[name]) for name in COLUMNS]
        table.add_row(f"  {weighting}", *cells)
    return table


def values(results: Results, loss: Loss, weighting: Weighting, name: str) -> Array:
    """Return one score of all seeds, shape (seeds,)."""
    return np.array([getattr(scores, name) for scores in results[loss, weighting]])


def among_best(results: Results, name: str) -> set[tuple[Loss, Weighting]]:
    """Return which runs have the best mean or are not clearly below it.

    None where that is all of them, or with so few seeds that anything could pass for the best.
    """
    columns = {run: values(results, *run, name) for run in results}
    best = max(columns.values(), key=lambda column: float(column.mean()))
    if len(best) < FEWEST_SEEDS:
        return set()
    chosen = {run for run, column in columns.items() if not is_clear(best - column)}
    return chosen if len(chosen) < len(columns) else set()


def _cell(column: Array, emphasised: bool) -> str:
    mean, error = map(float, mean_and_error(100 * column))
    if math.isnan(mean):
        return "- "
    text = f"{mean:.1f}±{error:.1f}"
    return f"[bold]{text}*[/bold]" if emphasised else f"{text} "  # the mark's place, so that digits align


def conclusion(results: Results) -> str:
    """Return in words what class balancing changed, from differences paired by seed and averaged over the losses."""
    groups = {"few": "few-shot recall", "medium": "medium-shot recall", "many": "many-shot recall"}
    changes = {name: change(results, "class-balanced", field) for field, name in groups.items()}
    parts = [f"{name} {text}" for name, text in changes.items() if text]
    always, late = (change(results, weighting, "balanced_accuracy") for weighting in ("class-balanced", "deferred"))
    return (
        f"With class-balanced instead of plain losses (mean of the three), {_listed(parts)}. "
        f"Balanced accuracy {always} with class weights from the start, and {late} with deferred ones."
    )


def change(results: Results, weighting: Weighting, name: str) -> str:
    """Return how a score differs from plain, e.g. "rose by 1.2 ± 0.3 points"; nothing for a group without a class."""
    pairs = [values(results, loss, weighting, name) - values(results, loss, "plain", name) for loss in LOSSES]
    differences = 100 * np.mean(pairs, axis=0)
    mean, error = map(float, mean_and_error(differences))
    if math.isnan(mean):
        return ""
    if not differences.any():
        return "did not change"
    if not is_clear(differences):
        return f"did not clearly change ({mean:+.1f} ± {error:.1f} points)"
    return f"{'rose' if mean > 0 else 'fell'} by {abs(mean):.1f} ± {error:.1f} points"


def _listed(parts: Sequence[str]) -> str:
    return " and ".join(filter(None, (", ".join(parts[:-1]), parts[-1])))
