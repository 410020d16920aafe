"""A fresh process: the memory of the first step there, and the time of the next, which compiles nothing.

Run as a program it measures one candidate and prints JSON; `in_child` starts that.
"""

import json
import re
import subprocess
import sys
import time
from importlib import import_module
from pathlib import Path
from typing import NamedTuple

from benchmarks.machine import trim_heap
from benchmarks.problem import Candidate, Problem

ROOT = Path(__file__).parents[1]
SMALL = (64, 2048)  # rows and classes: enough for every thread to start


class Fresh(NamedTuple):
    """Seconds of a step, and the peak of the memory it took beyond what was there, in bytes."""

    seconds: float
    extra: int


def in_child(framework: str, problem: Problem, name: str, mode: str) -> Fresh:
    """Measure a candidate in a process of its own, with malloc as it comes."""
    of = [problem.loss, str(problem.rows), str(problem.classes), problem.dtype, problem.targets]
    command = [sys.executable, "-m", "benchmarks.fresh", framework, *of, name, mode]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    if result.returncode:
        raise RuntimeError(f"{' '.join(command)} failed:\n{result.stderr}")
    return Fresh(**json.loads(result.stdout.splitlines()[-1]))


def kilobytes(status: str, field: str) -> int:
    """Return a field of the text of /proc/self/status."""
    found = re.search(rf"^{field}:\s+(\d+) kB", status, re.MULTILINE)
    if found is None:
        raise ValueError(f"no {field} in the status of the process")
    return int(found[1])


def first_steps(small: Candidate, candidate: Candidate) -> Fresh:
    """Run a small step for what happens only once; take the memory of a first step and the time of a second.

    Not the memory of the second: XLA and TensorFlow keep what is freed, and would seem to need nothing. Not the time of
    the first: they compile in it. To glibc's malloc both steps are alike, it gives large blocks back at once.
    """
    for one in (small, candidate):
        with one.during():
            trim_heap()
            # Not ru_maxrss: a child begins with its parent's, and it cannot be reset.
            Path("/proc/self/clear_refs").write_text("5")
            before = _status("VmRSS")
            one.step()
            one.finish()
            extra = (_status("VmHWM") - before) * 1024
            begin = time.perf_counter()
            one.step()
            one.finish()
            seconds = time.perf_counter() - begin
    return Fresh(seconds, extra)


def _status(field: str) -> int:
    return kilobytes(Path("/proc/self/status").read_text(), field)


def main(arguments: list[str]) -> None:
    """Measure what the command line names."""
    framework, loss, rows, classes, dtype, targets, name, mode = arguments
    build = import_module(f"benchmarks.candidates_{framework}")

    def find(rows: int, classes: int) -> Candidate:
        found: list[Candidate]
        problem = Problem(loss, rows, classes, dtype, targets)
        found, _ = build.candidates(problem, (mode,) if mode else build.DEFAULT_PATHS)
        return next(one for one in found if (one.name, one.mode) == (name, mode))

    print(json.dumps(first_steps(find(*SMALL), find(int(rows), int(classes)))._asdict()))


if __name__ == "__main__":
    main(sys.argv[1:])
