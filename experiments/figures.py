"""The figures that come from formulas and counts, and what all figures look like. Each is written as PNG and SVG."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal, TypeAlias

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

import cbcore
from experiments.evaluate import Integers
from experiments.recipe import CIFAR
from experiments.tables import NAMES, NOT_RUN

# Okabe and Ito's colours, which colour-blind readers tell apart.
BLUE, ORANGE, GREEN, PINK, SKY, BLACK = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#000000"
BETA_COLOURS = {0.9: PINK, 0.99: GREEN, 0.999: BLUE, 0.9999: ORANGE}
FACTORS = {10: PINK, 20: SKY, 50: GREEN, 100: BLUE, 200: ORANGE}
HEADS = {"cifar10": (5000, 10), "cifar100": (500, 100)}
FONT = 11

Corner: TypeAlias = Literal["best", "upper right", "lower left"]


def new_figure(columns: int, width: float = 11, height: float = 4.2) -> tuple[Figure, list[Axes]]:
    """Return a row of panels."""
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, list(np.atleast_1d(figure.subplots(1, columns)))


def save(figure: Figure, folder: Path, name: str) -> None:
    """Write SVG, the same bytes every time."""
    with mpl.rc_context({"svg.hashsalt": "cbcore"}):
        figure.savefig(folder / f"{name}.svg", metadata={"Date": None})


def label(axes: Axes, title: str, xlabel: str, ylabel: str, legend: Corner | None = "best") -> None:
    """Write the words of a panel."""
    axes.set_title(title, fontsize=FONT + 1, loc="left")
    axes.set_xlabel(xlabel, fontsize=FONT)
    axes.set_ylabel(ylabel, fontsize=FONT)
    axes.tick_params(labelsize=FONT - 1)
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    if legend:
        axes.legend(loc=legend, fontsize=FONT - 1, frameon=False)


def legend_below(figure: Figure, panels: Sequence[Axes], columns: int) -> None:
    """Explain the lines of all panels once, in the order of their names."""
    lines = {text: line for axes in panels for line, text in zip(*axes.get_legend_handles_labels(), strict=True)}
    names = sorted(lines)
    figure.legend([lines[name] for name in names], names, loc="outside lower center", ncols=columns, frameon=False)


def blank(axes: Axes, title: str) -> None:
    """Say that a panel has nothing to show."""
    axes.text(0.5, 0.5, NOT_RUN, ha="center", va="center", fontsize=FONT + 3, color="0.45", transform=axes.transAxes)
    axes.set_title(title, fontsize=FONT + 1, loc="left")
    axes.set_xticks([])
    axes.set_yticks([])


def figure3() -> Figure:
    """Draw the class-balanced term (1 - β) / (1 - β^n) against n."""
    figure, (axes,) = new_figure(1, width=7)
    n = np.unique(np.geomspace(1, 10_000, 200).astype(np.int64))
    axes.plot(n, 1 / cbcore.effective_number(n, 0.0), color="0.5", linestyle="--", label="β = 0: no re-weighting")
    for beta, colour in BETA_COLOURS.items():
        axes.plot(n, 1 / cbcore.effective_number(n, beta), color=colour, label=f"β = {beta:g}", linewidth=2)
    axes.plot(n, 1 / cbcore.effective_number(n, 1.0), color=BLACK, linestyle=":", label="β → 1: 1 / n")
    axes.set(xscale="log", yscale="log")
    label(axes, "Class-balanced term", "Training samples of the class, n", "1 / effective number", "lower left")
    return figure


def figure4(counts: Mapping[str, Integers]) -> Figure:
    """Draw the training samples per class of the long-tailed CIFARs and, where counts are given, of the large sets."""
    figure, panels = new_figure(3 if counts else 2, width=13 if counts else 11)
    for axes, dataset in zip(panels, CIFAR, strict=False):
        head, num_classes = HEADS[dataset]
        for factor, colour in FACTORS.items():
            marker = "o" if num_classes == 10 else ""
            n = cbcore.long_tailed_counts(head, num_classes, factor)
            axes.plot(np.arange(num_classes), n, color=colour, marker=marker, label=f"factor {factor}", linewidth=2)
        axes.set_ylim(0)
        label(axes, f"Long-tailed {NAMES[dataset]}", "Class index", "Training samples")
    for (dataset, n), colour in zip(counts.items(), (BLUE, ORANGE, GREEN), strict=False):
        share = np.linspace(0, 100, len(n))
        panels[-1].plot(
            share, np.sort(n)[::-1], color=colour, label=f"{NAMES[dataset]}, {len(n):,} classes", linewidth=2
        )
    if counts:
        panels[-1].set_yscale("log")
        panels[-1].set_ylim(1)
        label(panels[-1], "Large data sets", "Classes, most frequent first, %", "Training samples", "lower left")
    return figure


def figure6() -> Figure:
    """Draw the effective number of each class at factor 50."""
    figure, panels = new_figure(2)
    for axes, dataset in zip(panels, CIFAR, strict=True):
        n = cbcore.long_tailed_counts(*HEADS[dataset], 50)
        marker = "o" if dataset == "cifar10" else ""
        axes.plot(n, color=BLACK, linestyle=":", marker=marker, label="β → 1: number of samples", linewidth=2)
        for beta, colour in reversed(BETA_COLOURS.items()):
            values = cbcore.effective_number(n, beta)
            axes.plot(values, color=colour, marker=marker, label=f"β = {beta:g}", linewidth=2)
        axes.set_yscale("log")
        title = f"Long-tailed {NAMES[dataset]}, factor 50"
        label(axes, title, "Class index", "Effective number", None)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
    legend_below(figure, panels, columns=5)
    return figure
