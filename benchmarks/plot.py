"""The picture: how many times faster than the best peer."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

from benchmarks.records import Comparison, Run, comparisons

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7")  # Okabe and Ito: told apart by everybody
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*", "h", "<", ">")


def save(runs: Sequence[Run], stem: Path) -> Path:
    """Draw the runs and write SVG; the same data give the same bytes."""
    mpl.rcParams["svg.hashsalt"] = "cbcore"
    figure = draw(runs)
    path = stem.with_suffix(".svg")
    figure.savefig(path, metadata={"Date": None})
    return path


def draw(runs: Sequence[Run]) -> Figure:
    """Return a figure with a panel for each run."""
    columns, lines = min(max(len(runs), 1), 2), max((len(runs) + 1) // 2, 1)
    figure = Figure(figsize=(1 + 5 * columns, 5.2 * lines), layout="constrained")
    axes = figure.subplots(lines, columns, squeeze=False, sharey=True).flat
    for run, panel in zip(runs, axes, strict=False):
        draw_run(run, panel)
    for panel in list(axes)[len(runs) :]:
        panel.set_visible(False)
    figure.supylabel("times faster than the best peer (log scale)", fontsize=10)
    figure.suptitle("One step, ratio to the best peer", fontsize=11)
    return figure


def draw_run(run: Run, panel: Axes) -> None:
    """Draw one run: losses along the axis, colour for the path, marker for `shape`, hollow for bfloat16."""
    found = [one for one in comparisons(run.records) if one.ratio is not None]
    losses, modes = _distinct([one.ours.loss for one in found]), _distinct([one.ours.mode for one in found])
    shapes = _distinct([shape(one) for one in found])
    for one in found:
        mode, form = modes.index(one.ours.mode), shapes.index(shape(one))
        x = losses.index(one.ours.loss) + 0.7 * ((form + 0.5) / len(shapes) - 0.5) + 0.06 * (mode - len(modes) / 2)
        colour, hollow = COLOURS[mode % len(COLOURS)], one.ours.dtype == "bfloat16"
        marker = MARKERS[form % len(MARKERS)]
        panel.plot(x, one.ratio or 0, marker, color=colour, mfc="white" if hollow else colour, ms=6)
    panel.axhline(1, color="black", lw=1)
    panel.set_yscale("log")
    panel.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    panel.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    panel.yaxis.set_minor_formatter(NullFormatter())
    panel.set_xticks(range(len(losses)), losses)
    panel.set_title(f"{run.framework}, {run.device}", fontsize=10)
    panel.grid(axis="y", color="0.9")
    panel.set_axisbelow(True)
    for border in range(1, len(losses)):
        panel.axvline(border - 0.5, color="0.9", lw=0.8)
    dtypes = _distinct([one.ours.dtype for one in found])
    handles = [_key(mode, COLOURS[i % len(COLOURS)], "o") for i, mode in enumerate(modes)]
    handles += [_key(text, "0.4", MARKERS[i % len(MARKERS)]) for i, text in enumerate(shapes)]
    handles += [_key("bfloat16", "0.4", "o", hollow=True)] if "bfloat16" in dtypes else []
    panel.legend(handles=handles, fontsize=8, frameon=False, ncols=3, loc="upper center", bbox_to_anchor=(0.5, -0.08))


def shape(one: Comparison) -> str:
    """Return the shape as a reader writes it, with the dtype and the targets that are not the usual ones."""
    problem = one.ours.problem
    rare = [problem.dtype] if problem.dtype not in ("float32", "bfloat16") else []
    rare += [problem.targets] if problem.targets != "index" else []
    return " ".join([f"{problem.rows}x{problem.classes}", *rare])


def _key(text: str, colour: str, marker: str, *, hollow: bool = False) -> Line2D:
    return Line2D([], [], ls="", marker=marker, color=colour, mfc="white" if hollow else colour, label=text)


def _distinct(items: Sequence[str]) -> list[str]:
    return list(dict.fromkeys(items))
