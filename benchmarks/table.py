"""The page: a header, and a table for each framework, in Markdown that can be read as it is."""

from collections.abc import Callable, Sequence

from benchmarks.problem import Problem
from benchmarks.records import Comparison, Record, Run, comparisons
from benchmarks.targets import WIDE, targets, verdict

HEADERS = (
    "loss", "logits", "dtype", "targets", "path", "ratio", "ours (min, IQR)", "peer", "best peer", "x copy",
    "faults ours / peer", "fresh ours / peer", "fresh ratio", "memory ours / peer",
)  # fmt: skip
LEGEND = """\
Forward and backward of one step (NumPy: the value), median of the rounds that were kept. *Ratio*: time of the best peer
over ours. *x copy*: ours over a copy of the logits into memory that is there, by as many threads. *Faults*: minor page
faults a step. The heap is kept warm: freed memory is used again. *Fresh*: a step in a process of its own, with malloc
as it comes, ours and the fastest peer there; *memory*: the peak of the first step there, less what was there before,
over the bytes of the logits (of the gradient alone: 1). In brackets what is asked for. Every peer has given our loss
and gradient before it was timed, but for one: of targets that are soft or smoothed torchvision's formula makes another
loss, and only its time is compared. *Targets*: class indices (index), a mixture of two classes in each row, given
(soft), or indices smoothed by 0.1 (smoothed)."""


def page(runs: Sequence[Run], picture: str) -> str:
    """Return the page of one machine; `picture` is the file beside it that shows the ratios."""
    header = runs[0].header
    parts = [f"# {header['CPU']}, {header['Cores']} cores", LEGEND, f"![Ratio to the best peer]({picture})"]
    cpu = [run for run in runs if run.device == "cpu"]
    gpu = [run for run in runs if run.device != "cpu"]
    parts += [section(run) for run in cpu]
    parts.append("## GPU" if gpu else "## GPU\n\nnot run")
    parts += [section(run) for run in gpu]
    return "\n\n".join(parts) + "\n"


def section(run: Run) -> str:
    """Return the header, the table and the remarks of one run."""
    facts = "\n".join(f"- {name}: {value}" for name, value in run.header.items())
    notes = "\n".join(f"- {note}" for note in [rounds(run.records), *run.notes])
    lines = [row(one) for one in comparisons(run.records)]
    return f"## {run.framework}, {run.device}\n\n{facts}\n\n{markdown(HEADERS, lines)}\n\n{notes}"


def rounds(records: Sequence[Record]) -> str:
    """Say how many rounds were dropped."""
    problems = {record.problem: record for record in records}.values()
    dropped = sum(record.dropped for record in problems)
    total = dropped + sum(record.kept for record in problems)
    text = f"rounds dropped because other processes were busy: {dropped} of {total}"
    restless = sum(not record.quiet for record in problems)
    if restless:
        text += f"; {restless} of {len(problems)} problems had too few quiet ones: theirs are the quietest, not judged"
    return text


def row(one: Comparison) -> tuple[str, ...]:
    """Return the cells of one of our paths."""
    ours, peer, asked = one.ours, one.peer, targets(one)
    quiet = ours.quiet
    spread = f" ({duration(ours.minimum)}, {duration(ours.spread)})"
    limit = verdict(ours.median, asked.seconds, at_least=False, quiet=quiet)
    if limit and asked.seconds is not None:
        limit = limit.replace(f"{asked.seconds:.3g}", duration(asked.seconds))
    large = ours.problem.size >= WIDE
    return (
        *names(ours.problem),
        ours.mode,
        times(one.ratio) + verdict(one.ratio, asked.ratio, at_least=True, quiet=quiet),
        duration(ours.median) + spread + limit,
        duration(peer.median) if peer else "",
        peer.name if peer else "none",
        (times(one.copies) + verdict(one.copies, asked.copies, at_least=False, quiet=quiet)) if large else "",
        pair("{:.0f}".format, ours.faults, peer.faults if peer else None),
        pair(duration, ours.fresh, one.fresh_peer.fresh if one.fresh_peer else None),
        times(one.fresh_ratio) + verdict(one.fresh_ratio, asked.fresh_ratio, at_least=True, quiet=quiet),
        pair("{:.3f}".format, ours.extra, one.fresh_peer.extra if one.fresh_peer else None)
        + verdict(ours.extra, asked.extra, at_least=False, quiet=True),  # memory does not depend on others
    )


def names(problem: Problem) -> tuple[str, str, str, str]:
    """Return loss, shape, dtype and targets in words."""
    return problem.loss, f"{problem.rows}x{problem.classes}", problem.dtype, problem.targets


def duration(seconds: float | None) -> str:
    """Return a time in three digits."""
    if seconds is None:
        return ""
    unit, factor = next(((u, f) for u, f in (("s", 1.0), ("ms", 1e-3)) if seconds >= f), ("µs", 1e-6))
    value = seconds / factor
    return f"{value:.{0 if value >= 100 else 1 if value >= 10 else 2}f} {unit}"


def times(value: float | None) -> str:
    """Return a ratio."""
    return "" if value is None else f"{value:.2f}x" if value < 10 else f"{value:.1f}x"


def pair(write: Callable[[float], str], ours: float | None, theirs: float | None) -> str:
    """Return our value and the peer's, or nothing."""
    return "" if ours is None else write(ours) if theirs is None else f"{write(ours)} / {write(theirs)}"


def markdown(headers: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """Return a table with columns aligned."""
    table = [list(headers), *map(list, lines)]
    widths = [max(len(line[i]) for line in table) for i in range(len(headers))]
    table.insert(1, ["-" * width for width in widths])
    return "\n".join(
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |" for line in table
    )
