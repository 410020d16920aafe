"""What was measured, as data: written to JSON and CSV, read back, and set in relation."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.problem import Kind, Problem


@dataclass(frozen=True)
class Record:
    """One candidate of one problem; seconds and page faults are those of a step."""

    framework: str
    device: str
    loss: str
    rows: int
    classes: int
    dtype: str
    kind: Kind
    name: str
    mode: str
    median: float
    minimum: float
    spread: float
    faults: float
    kept: int  # rounds
    dropped: int
    quiet: bool
    fresh: float | None = None  # seconds of a step in a fresh process
    extra: float | None = None  # peak memory of a step there, over the bytes of the logits
    targets: str = "index"

    @property
    def problem(self) -> Problem:
        """Return what was computed."""
        return Problem(self.loss, self.rows, self.classes, self.dtype, self.targets)


@dataclass(frozen=True)
class Run:
    """The records of one framework on one device, with what a reader must know of them."""

    framework: str
    device: str
    header: Mapping[str, str]
    notes: Sequence[str]
    records: Sequence[Record]


@dataclass(frozen=True)
class Comparison:
    """One of our paths, the fastest peer that it is compared with, and the copy of the logits."""

    ours: Record
    peer: Record | None
    copy: Record | None
    fresh_peer: Record | None  # the fastest in a fresh process

    @property
    def ratio(self) -> float | None:
        """Return how many times faster than the best peer."""
        return self.peer.median / self.ours.median if self.peer else None

    @property
    def copies(self) -> float | None:
        """Return the multiple of the copy floor."""
        return self.ours.median / self.copy.median if self.copy else None

    @property
    def fresh_ratio(self) -> float | None:
        """Return how many times faster than the best peer, both in a fresh process."""
        if self.fresh_peer is None or self.fresh_peer.fresh is None or self.ours.fresh is None:
            return None
        return self.fresh_peer.fresh / self.ours.fresh


def comparisons(records: Sequence[Record]) -> list[Comparison]:
    """Compare each of our paths with the peers of its problem and mode, and with the copy."""
    found = []
    for ours in records:
        if ours.kind != "ours":
            continue
        same = [r for r in records if (r.problem, r.device, r.framework) == (ours.problem, ours.device, ours.framework)]
        peers = [r for r in same if r.kind == "peer" and r.mode in ("", ours.mode)]
        fresh = [(r.fresh, r) for r in peers if r.fresh is not None]
        found.append(
            Comparison(
                ours,
                min(peers, key=lambda r: r.median, default=None),
                next((r for r in same if r.kind == "copy"), None),
                min(fresh, key=lambda pair: pair[0], default=(None, None))[1],
            )
        )
    return found


def merged(old: Iterable[Run], new: Run) -> list[Run]:
    """Return the runs with that of the same framework and device replaced, in a fixed order."""
    others = [run for run in old if (run.framework, run.device) != (new.framework, new.device)]
    return sorted([*others, new], key=lambda run: (run.device, run.framework))


def write_json(runs: Sequence[Run], path: Path) -> None:
    """Write everything, a record a line."""
    texts = []
    for run in runs:
        about = asdict(run)
        records = ",\n".join(json.dumps(record) for record in about.pop("records"))
        texts.append(f'{json.dumps(about)[:-1]}, "records": [\n{records}\n]}}')
    path.write_text("[" + ",\n".join(texts) + "]\n")


def read_json(path: Path) -> list[Run]:
    """Read what `write_json` wrote; nothing if it never did."""
    if not path.exists():
        return []
    return [
        Run(**{**run, "records": [Record(**record) for record in run["records"]]})
        for run in json.loads(path.read_text())
    ]
