"""The figures of the paper, from formulas, counts and our results; each is written as PNG and SVG."""

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeAlias

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

import cbcore
from experiments.evaluate import Integers
from experiments.recipe import CIFAR
from experiments.results import Group
from experiments.tables import NAMES, NOT_RUN, data_name, loss_name

# Okabe and Ito's colours, which colour-blind readers tell apart.
BLUE, ORANGE, GREEN, PINK, SKY, BLACK = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#000000"
BETA_COLOURS = {0.9: PINK, 0.99: GREEN, 0.999: BLUE, 0.9999: ORANGE}
LOSS_STYLES = {"softmax": (BLUE, "o"), "sigmoid": (ORANGE, "s"), "focal": (GREEN, "^")}
FACTORS = {10: PINK, 20: SKY, 50: GREEN, 100: BLUE, 200: ORANGE}
HEADS = {"cifar10": (5000, 10), "cifar100": (500, 100)}
FONT = 11

Corner: TypeAlias = Literal["best", "upper right", "lower left"]


def new_figure(columns: int, width: float = 11, height: float = 4.2) -> tuple[Figure, list[Axes]]:
    """Return a row of panels."""
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, list(np.atleast_1d(figure.subplots(1, columns)))


def save(figure: Figure, folder: Path, name: str) -> None:
    """Write PNG and SVG, the same bytes every time."""
    figure.savefig(folder / f"{name}.png", dpi=150)
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


def figure5(groups: Sequence[Group]) -> Figure:
    """Draw the error against β, one panel for each data set, factor and number of epochs that has several β."""
    settings: dict[tuple[str, int], list[Group]] = {}
    for group in groups:
        if group.recipe.dataset in CIFAR and group.recipe.drw_epoch is None:
            settings.setdefault((data_name(group), group.recipe.epochs), []).append(group)
    swept = {k: v for k, v in settings.items() if len({group.recipe.beta for group in v}) > 2}
    figure, panels = new_figure(max(len(swept), 1), width=max(7.5, 5.5 * len(swept)), height=4.8)
    if not swept:
        blank(panels[0], "Test error against β")
    for axes, ((name, epochs), members) in zip(panels, swept.items(), strict=False):
        beta_panel(axes, members)
        label(axes, f"{name}, {epochs} epochs", "β", "Test error, %", None)
    legend_below(figure, panels, columns=3 if swept else 1)
    return figure


def beta_panel(axes: Axes, groups: Sequence[Group]) -> None:
    """Draw one line a loss; dashed without the class-balanced term."""
    betas = sorted({group.recipe.beta for group in groups} - {0.0})
    place = {beta: i for i, beta in enumerate(betas)}
    kinds = sorted({(group.recipe.loss, group.recipe.gamma) for group in groups}, key=str)
    for i, (loss, gamma) in enumerate(kinds):
        colour, marker = LOSS_STYLES[loss]
        members = [group for group in groups if (group.recipe.loss, group.recipe.gamma) == (loss, gamma)]
        shift = 0.06 * (i - (len(kinds) - 1) / 2)  # or the error bars of the losses would hide one another
        balanced = [(place[g.recipe.beta] + shift, g.percent("top1_error")) for g in members if g.recipe.beta > 0]
        points = np.array([(x, y.mean, np.nan_to_num(y.error)) for x, y in sorted(balanced, key=lambda pair: pair[0])])
        style: dict[str, Any] = {"color": colour, "alpha": 1.0 if gamma in (None, 1.0) else 0.55}
        name = loss_name(loss, gamma)
        if len(points):
            axes.errorbar(*points.T, marker=marker, capsize=3, label=f"{name}, class-balanced", linewidth=2, **style)
        for group in members:
            if group.recipe.beta == 0:
                axes.axhline(group.percent("top1_error").mean, linestyle="--", label=f"{name}, plain", **style)
    axes.set_xticks(range(len(betas)), [f"{beta:g}" for beta in betas])


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


def figure7(groups: Sequence[Group]) -> Figure:
    """Draw the test error during training: the paper's two data sets, and each CIFAR setting that was trained."""
    settings: dict[str, list[Group]] = {"ILSVRC 2012, ResNet-50, 224²": [], "iNaturalist 2018, ResNet-50, 224²": []}
    for group in groups:
        name = data_name(group)
        title = f"{name}, {group.recipe.epochs} epochs" if group.recipe.dataset in CIFAR else name
        settings.setdefault(title, []).append(group)
    drawn = dict(sorted(settings.items(), key=lambda item: not item[1]))  # what was not run stands last
    rows = [list(drawn)[i : i + 2] for i in range(0, len(drawn), 2)]
    heights = [4.2 if any(drawn[title] for title in row) else 1.2 for row in rows]
    figure = Figure(figsize=(11, sum(heights)), layout="constrained")
    panels = figure.subplots(len(rows), 2, squeeze=False, height_ratios=heights).flat
    for axes, title in itertools.zip_longest(panels, drawn):
        if title is None:
            axes.set_axis_off()
        elif drawn[title]:
            curves_panel(axes, drawn[title], title)
        else:
            blank(axes, title)
    return figure


def curves_panel(axes: Axes, groups: Sequence[Group], title: str) -> None:
    """Draw the test error of the plain losses and of the largest β."""
    largest = max(group.recipe.beta for group in groups)
    for group in groups:
        recipe = group.recipe
        if recipe.beta not in (0, largest):
            continue  # as in the paper: without the class-balanced term, and with it
        deferred = recipe.drw_epoch is not None
        beta = "plain" if recipe.beta == 0 else f"β = {recipe.beta:g}" + (", deferred" if deferred else "")
        style = "--" if recipe.beta == 0 else ":" if deferred else "-"
        name = f"{loss_name(recipe.loss, recipe.gamma)}, {beta}"
        axes.plot(*mean_curve(group), style, color=LOSS_STYLES[recipe.loss][0], label=name, linewidth=1.8)
    label(axes, title, "Epoch", "Test error, %", "upper right")


def mean_curve(group: Group) -> tuple[list[int], list[float]]:
    """Return the epochs that every seed was tested at, and the mean error there."""
    curves = [{h["epoch"]: h["test_error"] for h in r["history"] if h["test_error"] is not None} for r in group.results]
    epochs = [epoch for epoch in curves[0] if all(epoch in curve for curve in curves)]
    return epochs, [100 * float(np.mean([curve[epoch] for curve in curves])) for epoch in epochs]
