"""The figures that come from our results: error against β, and training curves."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.figures import BLUE, GREEN, ORANGE, blank, label, legend_below, new_figure
from experiments.recipe import CIFAR
from experiments.results import Group
from experiments.tables import data_name, loss_name

LOSS_STYLES = {"softmax": (BLUE, "o"), "sigmoid": (ORANGE, "s"), "focal": (GREEN, "^")}


def figure5(groups: Sequence[Group]) -> Figure:
    """Draw the error against β, one panel for each data set, factor and number of epochs that has several β."""
    settings: dict[tuple[str, int], list[Group]] = {}
    for group in groups:
        if group.recipe.dataset in CIFAR and group.recipe.drw_epoch is None:
            settings.setdefault((data_name(group), group.recipe.epochs), []).append(group)
    swept = {k: v for k, v in settings.items() if len({group.recipe.beta for group in v}) > 2}
    if not swept:
        figure, panels = new_figure(1, width=7.5, height=1.5)
        blank(panels[0], "Test error against β")
        return figure
    figure, panels = new_figure(len(swept), width=max(7.5, 5.5 * len(swept)), height=4.8)
    for axes, ((name, epochs), members) in zip(panels, swept.items(), strict=True):
        beta_panel(axes, members)
        label(axes, f"{name}, {epochs} epochs", "β", "Test error, %", None)
    legend_below(figure, panels, columns=3)
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


def figure7(groups: Sequence[Group]) -> Figure:
    """Draw the test error during training: the paper's two data sets, and each CIFAR setting that was trained."""
    settings: dict[str, list[Group]] = {"ILSVRC 2012, ResNet-50, 224²": [], "iNaturalist 2018, ResNet-50, 224²": []}
    for group in groups:
        name = data_name(group)
        title = f"{name}, {group.recipe.epochs} epochs" if group.recipe.dataset in CIFAR else name
        settings.setdefault(title, []).append(group)
    drawn, missing = ([title for title, members in settings.items() if bool(members) is run] for run in (True, False))
    rows = [titles[i : i + 2] for titles in (drawn, missing) for i in range(0, len(titles), 2)]
    heights = [4.2 if settings[row[0]] else 1.2 for row in rows]
    figure = Figure(figsize=(11, sum(heights)), layout="constrained")
    panels = figure.subplots(len(rows), 2, squeeze=False, height_ratios=heights)
    places = [title for row in rows for title in (*row, None)[:2]]
    for axes, place in zip(panels.flat, places, strict=True):
        if place is None:  # beside the last of an odd number
            axes.set_axis_off()
        elif settings[place]:
            curves_panel(axes, settings[place], place)
        else:
            blank(axes, place)
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
