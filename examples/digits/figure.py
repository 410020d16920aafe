"""The figure: what class balancing does to each class, and where the weights come from."""

from pathlib import Path
from typing import Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

import cbcore
from examples.digits.metrics import Integers, mean_and_error
from examples.digits.recipe import LOSSES, Loss, Weighting
from examples.digits.report import Results, values

# Okabe and Ito's colours, which colour-blind readers tell apart, and which differ in lightness in print.
COLOURS: dict[Weighting, str] = {"plain": "#0072B2", "class-balanced": "#D55E00"}
MARKERS: dict[Loss, str] = {"softmax": "o", "sigmoid": "s", "focal": "^"}
SHADES = {0.0: COLOURS["plain"], 0.9: "#009E73", 0.99: "#CC79A7", 0.999: "#000000"}
FONT = 13


def save_figure(results: Results, class_counts: Integers, beta: float, path: Path) -> None:
    """Draw both panels and write them as PNG."""
    figure = Figure(figsize=(12, 5), layout="constrained")
    left, right = figure.subplots(1, 2)
    recall_panel(left, results, class_counts)
    weight_panel(right, class_counts, beta)
    figure.savefig(path, dpi=150, format="png")


def recall_panel(axes: Axes, results: Results, class_counts: Integers) -> None:
    """Draw the recall of each class against its training samples."""
    for weighting, colour in COLOURS.items():
        for loss in LOSSES:
            means, errors = mean_and_error(100 * values(results, loss, weighting, "recall"))
            label, marker = f"{weighting}, {loss}", MARKERS[loss]
            axes.errorbar(class_counts, means, errors, color=colour, marker=marker, label=label, alpha=0.8)
    axes.set_ylim(0, 103)
    seeds = len(next(iter(results.values())))
    _label(
        axes,
        f"Recall of each class ({seeds} seeds, ± standard error)",
        "Recall on the test set, %",
        "lower right",
    )
    _count_axis(axes, class_counts)


def weight_panel(axes: Axes, class_counts: Integers, beta: float) -> None:
    """Draw the weight of each class against its training samples, for several beta."""
    for shown in sorted({*SHADES, beta}):
        used = shown == beta
        colour = COLOURS["class-balanced"] if used else SHADES[shown]
        label = f"β = {shown:g}" + (" (used)" if used else "" if shown else " (plain)")
        # The thick line lies underneath, or it would hide those that all but coincide with it.
        width, order = (4.0, 2.0) if used else (1.5, 2.1)
        weights = cbcore.class_weights(class_counts, shown)
        axes.plot(class_counts, weights, marker="o", color=colour, label=label, linewidth=width, zorder=order)
    axes.set_yscale("log")
    axes.set_ylim(0.02, 10)
    axes.set_yticks([0.03, 0.1, 0.3, 1, 3, 10], ["0.03", "0.1", "0.3", "1", "3", "10"])
    axes.yaxis.set_minor_locator(NullLocator())
    _label(axes, "Weight of each class", "Class weight (mean 1, log scale)", "lower left")
    _count_axis(axes, class_counts)


def _label(axes: Axes, title: str, ylabel: str, legend: Literal["lower left", "lower right"]) -> None:
    axes.set_title(title, fontsize=FONT + 1, loc="left")
    axes.set_ylabel(ylabel, fontsize=FONT)
    axes.legend(loc=legend, fontsize=FONT - 1, frameon=False)
    axes.tick_params(labelsize=FONT - 1)
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)


def _count_axis(axes: Axes, class_counts: Integers) -> None:
    counts = np.unique(class_counts)
    axes.set_xscale("log")
    axes.set_xticks(counts, [str(count) for count in counts])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlabel("Training samples of the class (log scale)", fontsize=FONT)
