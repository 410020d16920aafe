"""Timing in one process: round robin, rounds dropped while others are busy, medians."""

import gc
import os
import resource
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np

from benchmarks.problem import Candidate

T = TypeVar("T")

_STAT = Path("/proc/stat")
_TICK = 1 / os.sysconf("SC_CLK_TCK")  # seconds: the resolution of the kernel's bookkeeping, for each core
BUSY = 0.05  # share of the machine that other processes may use in a round


@dataclass(frozen=True)
class Plan:
    """How long to measure: a batch is many steps of one candidate, a round one batch of each."""

    batch_seconds: float
    rounds: int  # quiet ones wanted
    fewest: int  # rounds, whatever the time
    limit_seconds: float


FULL = Plan(batch_seconds=0.025, rounds=11, fewest=5, limit_seconds=3)
TINY = Plan(batch_seconds=0.001, rounds=3, fewest=3, limit_seconds=0.1)


class Summary(NamedTuple):
    """Median, minimum and interquartile range."""

    median: float
    minimum: float
    spread: float


class Clock(NamedTuple):
    """Seconds since some moment: by the wall, of this process's CPU time, and of all cores together."""

    wall: float
    own: float
    everyone: float


class Round(NamedTuple):
    """Seconds and page faults a step of each candidate, and the share of the machine that others used."""

    seconds: dict[str, float]
    faults: dict[str, float]
    foreign: float


@dataclass(frozen=True)
class Timing:
    """What all kept rounds say of one candidate."""

    seconds: Summary
    faults: float


@dataclass(frozen=True)
class Measurement:
    """Timings by the candidates' keys; `quiet` is False where too few rounds were, and the quietest were kept."""

    timings: dict[str, Timing]
    kept: int
    dropped: int
    quiet: bool


def rotated(items: Sequence[T], by: int) -> list[T]:
    """Return the items in turn, beginning with another one each time: what precedes a step leaves its cache."""
    by %= max(len(items), 1)
    return [*items[by:], *items[:by]]


def summarise(samples: Sequence[float]) -> Summary:
    """Return median, minimum and interquartile range."""
    low, middle, high = np.percentile(samples, [25, 50, 75])
    return Summary(float(middle), float(min(samples)), float(high - low))


def read_stat(text: str) -> float:
    """Return the seconds all cores were busy, from the text of /proc/stat: all but idle and waiting for disks."""
    user, nice, system, _idle, _wait, *interrupts_and_stolen = map(int, text.splitlines()[0].split()[1:9])
    return (user + nice + system + sum(interrupts_and_stolen)) * _TICK


def clock() -> Clock:
    """Read the three clocks; without /proc/stat nobody else is ever seen."""
    own = time.process_time()
    return Clock(time.perf_counter(), own, read_stat(_STAT.read_text()) if _STAT.exists() else own)


def foreign_share(before: Clock, after: Clock, cores: int) -> float:
    """Return the share of the machine that other processes used, a tick a core aside, which is bookkeeping."""
    others = (after.everyone - before.everyone) - (after.own - before.own) - cores * _TICK
    return max(others, 0.0) / (cores * (after.wall - before.wall))


def quiet_rounds(rounds: Sequence[Round], fewest: int) -> tuple[list[Round], bool]:
    """Return the rounds to keep, and whether they were quiet; if too few were, the quietest ones that there are."""
    quiet = [one for one in rounds if one.foreign <= BUSY]
    if len(quiet) >= fewest:
        return quiet, True
    return sorted(rounds, key=lambda one: one.foreign)[:fewest], False


def conclude(rounds: Sequence[Round], fewest: int) -> Measurement:
    """Summarise what was measured."""
    kept, quiet = quiet_rounds(rounds, fewest)
    timings = {
        key: Timing(summarise([one.seconds[key] for one in kept]), summarise([one.faults[key] for one in kept]).median)
        for key in kept[0].seconds
    }
    return Measurement(timings, len(kept), len(rounds) - len(kept), quiet)


def measure(candidates: Sequence[Candidate], plan: Plan) -> Measurement:
    """Time the candidates, which have all run once already."""
    cores = os.cpu_count() or 1
    repeats = {one.key: max(1, min(10_000, int(plan.batch_seconds / _batch(one, 1)[0]))) for one in candidates}
    rounds: list[Round] = []
    begin = time.perf_counter()
    gc.collect()
    gc.disable()
    try:
        while (quiet := sum(one.foreign <= BUSY for one in rounds)) < plan.rounds:
            if time.perf_counter() - begin > plan.limit_seconds and len(rounds) >= plan.fewest:
                late = time.perf_counter() - begin > 2 * plan.limit_seconds
                if quiet >= plan.fewest or late:
                    break
            rounds.append(_round(rotated(candidates, len(rounds)), repeats, cores))
    finally:
        gc.enable()
    return conclude(rounds, plan.fewest)


def _round(candidates: Sequence[Candidate], repeats: dict[str, int], cores: int) -> Round:
    before = clock()
    batches = {one.key: _batch(one, repeats[one.key]) for one in candidates}
    share = foreign_share(before, clock(), cores)
    return Round({key: b[0] for key, b in batches.items()}, {key: b[1] for key, b in batches.items()}, share)


def _batch(candidate: Candidate, repeats: int) -> tuple[float, float]:
    """Return seconds and page faults a step."""
    step = candidate.step
    with candidate.during():
        candidate.finish()
        faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        begin = time.perf_counter()
        for _ in range(repeats):
            step()
        candidate.finish()
        seconds = time.perf_counter() - begin
        faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - faults
    return seconds / repeats, faults / repeats
