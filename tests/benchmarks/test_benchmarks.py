"""The benchmarks run, compare like with like, and count as they say. No test here asserts a time."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks import fresh, machine, measure, table, targets
from benchmarks.measure import Clock, Round
from benchmarks.problem import (
    LOSSES,
    RARE_LOSSES,
    RARE_SHAPES,
    SHAPES,
    USUAL,
    Candidate,
    Outcome,
    Problem,
    data,
    deviation,
)
from benchmarks.records import Comparison, Record, Run, comparisons, merged, read_json, write_json
from benchmarks.run import checked, chosen, main, parse

ROOT = Path(__file__).parents[2]
SMALL = Problem("focal-0.5", 256, 100_000)


def record(kind="ours", name="cbcore", mode="numba", median=0.010, **others) -> Record:
    values = {
        "framework": "torch", "device": "cpu", "loss": "focal-0.5", "rows": 256, "classes": 100_000, "dtype": "float32",
        "minimum": median, "spread": 0.0, "faults": 0.0, "kept": 5, "dropped": 1, "quiet": True,
    }  # fmt: skip
    return Record(**{**values, "kind": kind, "name": name, "mode": mode, "median": median, **others})


def run_with(*records: Record) -> Run:
    return Run("torch", "cpu", {"CPU": "made by hand", "Cores": 2}, ["a remark"], records)


class TestStatistics:
    def test_rotated(self):
        assert [measure.rotated("abc", by) for by in range(4)] == [list("abc"), list("bca"), list("cab"), list("abc")]

    def test_summarise(self):
        assert measure.summarise([5.0, 1.0, 2.0, 3.0, 4.0]) == (3.0, 1.0, 2.0)

    def test_busy_seconds_of_all_cores(self):
        text = "cpu  100 20 30 4000 500 6 7 8 0 0\ncpu0 1 1 1 1 1 1 1 1 0 0\n"
        ticks = 100 + 20 + 30 + 6 + 7 + 8  # without idle and waiting
        assert measure.read_stat(text) == pytest.approx(ticks * measure._TICK)

    def test_share_of_others(self):
        before, tick = Clock(0.0, 0.0, 0.0), measure._TICK
        # In a second on two cores: 1 s of ours, and 0.5 s of others, beside two ticks of bookkeeping.
        assert measure.foreign_share(before, Clock(1.0, 1.0, 1.5 + 2 * tick), 2) == pytest.approx(0.25)
        assert measure.foreign_share(before, Clock(1.0, 1.0, 1.0), 2) == 0

    def test_busy_rounds_are_dropped(self):
        rounds = [Round({"a": seconds}, {"a": 2.0}, foreign) for seconds, foreign in ((1, 0), (9, 0.5), (3, 0.05))]
        result = measure.conclude(rounds, fewest=2)
        assert (result.kept, result.dropped, result.quiet) == (2, 1, True)
        assert result.timings["a"].seconds.median == 2
        assert result.timings["a"].faults == 2

    def test_the_quietest_are_kept_where_all_are_busy_and_that_is_said(self):
        rounds = [Round({"a": seconds}, {"a": 0.0}, foreign) for seconds, foreign in ((1, 0.9), (9, 0.2), (3, 0.3))]
        result = measure.conclude(rounds, fewest=2)
        assert (result.kept, result.dropped, result.quiet) == (2, 1, False)
        assert result.timings["a"].seconds.median == 6

    def test_round_robin_runs_everything(self):
        counts = {"a": 0, "b": 0}

        def candidate(name: str) -> Candidate:
            def step() -> None:
                counts[name] += 1

            return Candidate("peer", name, "", step, lambda _: Outcome(0.0, None))

        result = measure.measure([candidate("a"), candidate("b")], measure.TINY)
        assert set(result.timings) == {"a", "b"}
        assert min(counts.values()) > measure.TINY.fewest


class TestRightValue:
    reference = Outcome(2.0, np.array([3.0, 4.0]))

    def test_deviation_is_the_larger_of_loss_and_gradient(self):
        assert deviation(Outcome(2.2, np.array([3.0, 4.0])), self.reference) == pytest.approx(0.1)
        assert deviation(Outcome(2.0, np.array([3.0, 5.0])), self.reference) == pytest.approx(0.2)
        assert deviation(Outcome(2.0, np.array([3.0, np.nan])), self.reference) == np.inf
        assert deviation(Outcome(2.0, None), self.reference) == 0

    def test_a_wrong_loss_is_not_timed(self):
        outcomes = {"ours": 2.0, "right": 2.001, "wrong": 2.01}
        candidates = [
            Candidate("peer", name, "", lambda: None, lambda _, loss=loss: self.reference._replace(loss=loss))
            for name, loss in outcomes.items()
        ]
        right, remarks = checked(SMALL, candidates)
        assert [one.name for one in right] == ["ours", "right"]
        assert remarks == ["wrong left out of focal-0.5 256x100000 float32: off by 0.005"]

    def test_another_loss_that_says_so_is_timed_if_it_is_finite(self):
        candidates = [
            Candidate(
                "peer", name, "", lambda: None, lambda _, loss=loss: self.reference._replace(loss=loss), is_same=is_same
            )
            for name, loss, is_same in (("ours", 2.0, True), ("another", 3.0, False), ("broken", np.nan, False))
        ]
        right, remarks = checked(replace(SMALL, targets="soft"), candidates)
        assert [one.name for one in right] == ["ours", "another"]
        assert remarks == ["broken left out of focal-0.5 256x100000 float32 soft: its loss or gradient is not finite"]


class TestProblems:
    def of(self, *arguments: str) -> list[Problem]:
        options = parse(arguments)
        return chosen(options.framework[0], options)

    def test_by_default_what_is_rare_is_measured_in_one_shape(self):
        pytest.importorskip("torch")
        found = self.of("--framework", "torch")
        rare = [one for one in found if (one.dtype, one.targets) not in USUAL]
        assert len(found) == len(set(found)) == len(USUAL) * len(LOSSES) * len(SHAPES) + len(rare)
        kinds = {("float16", "index"), ("float64", "index"), ("float32", "soft"), ("float32", "smoothed")}
        assert {(one.dtype, one.targets) for one in rare} == kinds
        assert {(one.rows, one.classes) for one in rare} == set(RARE_SHAPES)
        assert {one.loss for one in rare} == set(RARE_LOSSES)

    def test_what_is_asked_for_is_all_that_is_measured(self):
        pytest.importorskip("torch")
        arguments = ["--framework", "torch", "--shapes", "4x3", "--losses", "focal-3", "--targets", "soft"]
        assert self.of(*arguments) == [Problem("focal-3", 4, 3, "float32", "soft")]
        assert self.of(*arguments, "--dtypes", "float64") == [Problem("focal-3", 4, 3, "float64", "soft")]
        found = self.of("--framework", "torch", "--dtypes", "float16", "--losses", "softmax")
        assert found == [Problem("softmax", 1024, 8142, "float16")]

    def test_others_have_class_indices_in_float32(self):
        found = self.of("--framework", "numpy")
        assert {(one.dtype, one.targets) for one in found} == {("float32", "index")}
        assert len(found) == len(LOSSES) * len(SHAPES)


class TestTorch:
    def candidates(self, problem: Problem, paths=("closed form",)):
        pytest.importorskip("torch")
        from benchmarks import candidates_torch

        return candidates_torch.candidates(problem, paths)

    @pytest.mark.parametrize("targets", ["soft", "smoothed"])
    @pytest.mark.parametrize("loss", RARE_LOSSES)
    def test_peers_of_dense_targets_compute_our_loss_or_say_that_they_do_not(self, loss, targets):
        problem = Problem(loss, 40, 30, "float32", targets)
        ours, *peers = [(one, one.read(one.step())) for one in self.candidates(problem)[0]]
        assert ours[0].kind == "ours"
        assert peers
        for peer, outcome in peers:
            assert (deviation(outcome, ours[1]) < 1e-5) == peer.is_same
            assert peer.is_same == ("another loss" not in peer.name)

    def test_soft_targets_are_mixtures_of_two_classes(self):
        problem = Problem("softmax", 40, 30, "float32", "soft")
        dense = self.candidates(problem)[0][0].step.args[0].keywords["target"].numpy()
        assert dense.sum(1) == pytest.approx(1)
        assert set((dense > 0).sum(1)) == {1, 2}
        labels = data(problem).labels
        assert dense[1, labels[1]] + (labels[0] != labels[1]) * dense[1, labels[0]] == pytest.approx(1)

    @pytest.mark.parametrize(
        ("dtype", "targets", "reason"),
        [("float32", "soft", "the targets are soft"), ("float64", "index", "input is torch.float64")],
    )
    def test_kernels_that_pass_on_are_not_timed_under_their_name(self, dtype, targets, reason):
        pytest.importorskip("numba")
        paths = ("numba", "closed form")
        found, notes = self.candidates(Problem("sigmoid", 40, 30, dtype, targets), paths)
        assert [one.mode for one in found if one.kind == "ours"] == ["closed form"]
        assert any(note.startswith(f"path numba left out where {reason}") for note in notes)
        found, _ = self.candidates(Problem("sigmoid", 400, 300), paths)
        assert [one.mode for one in found if one.kind == "ours"] == list(paths)


class TestRecords:
    records = (
        record(fresh=0.02, extra=1.0),
        record(mode="closed form", median=0.03),
        record("peer", "slow", "", 0.5, fresh=1.0),
        record("peer", "fast", "", 0.2, fresh=2.0),
        record("peer", "elsewhere", "XLA", 0.001),
        record("peer", "another loss", "", 0.001, loss="sigmoid"),
        record("copy", "copy", "", 0.004),
    )

    def test_comparison(self):
        first, second = comparisons(self.records)
        assert first.peer is not None
        assert (first.peer.name, first.ratio, first.copies) == ("fast", pytest.approx(20), pytest.approx(2.5))
        assert first.fresh_ratio == pytest.approx(50)  # the fastest of fresh processes is another one
        assert (second.ours.mode, second.fresh_ratio) == ("closed form", None)
        (alone,) = comparisons(self.records[:1])
        assert (alone.peer, alone.ratio, alone.copies) == (None, None, None)

    def test_written_and_read_again(self, tmp_path):
        path = tmp_path / "runs.json"
        assert read_json(path) == []
        runs = [Run("torch", "cpu", {"CPU": "x"}, ["a"], list(self.records))]
        write_json(runs, path)
        assert read_json(path) == runs
        assert len(path.read_text().splitlines()) == 2 + len(self.records)

    def test_pages_from_before_there_were_soft_targets_are_read(self, tmp_path):
        path = tmp_path / "runs.json"
        write_json([run_with(*self.records)], path)
        path.write_text(path.read_text().replace(', "targets": "index"', ""))
        assert "targets" not in path.read_text()
        assert read_json(path)[0].records == list(self.records)

    def test_targets_are_not_mixed(self):
        soft = record("peer", "soft", "", 0.001, targets="soft")
        (first, _) = comparisons([*self.records, soft])
        assert first.peer is not None
        assert first.peer.name == "fast"

    def test_a_run_replaces_the_one_before(self):
        old, new = run_with(), run_with(*self.records)
        other = replace(old, framework="jax")
        assert merged([old, other], new) == [other, new]

    def test_page(self):
        text = table.page([run_with(*self.records)], "name.svg")
        assert "![Ratio to the best peer](name.svg)" in text
        assert "20.0x (≥ 14 met)" in text
        assert "2.50x (≤ 1.8 MISSED)" in text
        assert "50.0x (≥ 100 MISSED)" in text
        assert "1.000 (≤ 1.02 met)" in text
        assert "dropped because other processes were busy: 2 of 12;" not in text
        assert "dropped because other processes were busy: 2 of 12" in text
        assert text.endswith("## GPU\n\nnot run\n")
        busy = table.page([run_with(*(replace(one, quiet=False) for one in self.records))], "name.svg")
        assert "20.0x (≥ 14 busy)" in busy
        assert "too few quiet ones" in busy

    def test_plot(self, tmp_path):
        pytest.importorskip("matplotlib")
        from benchmarks import plot

        path = plot.save([run_with(*self.records)], tmp_path / "name")
        image = path.read_bytes()
        plot.save([run_with(*self.records)], tmp_path / "name")
        assert path.read_bytes() == image


class TestTargets:
    def asked(self, mode="numba", **others) -> targets.Targets:
        return targets.targets(Comparison(record(mode=mode, **others), None, None, None))

    def test_of_torch(self):
        assert self.asked() == targets.Targets(14.0, None, 1.8, 100.0, 1.02)
        assert self.asked("closed form", loss="softmax") == targets.Targets(1.41, None, None, 4.0, 1.05)
        assert self.asked(rows=1024, classes=1000) == targets.Targets(extra=1.02)
        assert self.asked(rows=1024, classes=1000, dtype="bfloat16", loss="sigmoid").ratio == 7.5
        assert self.asked(rows=128, classes=10) == targets.Targets(3.0)
        assert self.asked("closed form", rows=128, classes=10) == targets.Targets(1.4)
        assert self.asked("composite") == targets.Targets()

    @pytest.mark.parametrize("kind", ["soft", "smoothed"])
    def test_of_dense_targets(self, kind):
        wide = {"rows": 1024, "classes": 8142, "targets": kind}
        assert self.asked("closed form", **wide) == targets.Targets(2.5)
        assert self.asked("numba", **wide, loss="softmax") == targets.Targets(1.0)
        for others in ({"loss": "sigmoid"}, {"rows": 128, "classes": 10}, {"dtype": "float64"}, {"device": "cuda"}):
            assert self.asked("closed form", **{**wide, **others}) == targets.Targets()
        assert self.asked("composite", **wide) == targets.Targets()

    def test_of_others(self):
        assert self.asked("XLA", framework="tf").ratio == 1.25
        assert self.asked("jit", framework="jax", loss="sigmoid") == targets.Targets(3.0)
        assert self.asked("value", framework="numpy") == targets.Targets()
        assert self.asked("default", device="cuda", rows=8192).seconds == 3.65e-3


class TestTable:
    @pytest.mark.parametrize(
        ("seconds", "text"), [(12.34, "12.3 s"), (0.1234, "123 ms"), (0.0012, "1.20 ms"), (3.21e-5, "32.1 µs")]
    )
    def test_duration(self, seconds, text):
        assert table.duration(seconds) == text

    def test_columns_are_aligned(self):
        lines = table.markdown(("a", "long header"), [("a long cell", "b")]).splitlines()
        assert len({len(line) for line in lines}) == 1


def test_fields_of_the_status() -> None:
    assert fresh.kilobytes("VmPeak:\t  11 kB\nVmHWM:\t    8740 kB\n", "VmHWM") == 8740
    with pytest.raises(ValueError, match="VmRSS"):
        fresh.kilobytes("", "VmRSS")


def test_peak_memory_of_a_step() -> None:
    def candidate(size: int) -> Candidate:
        def step() -> int:
            return int(np.ones(size, np.uint8)[-1])

        return Candidate("peer", "ones", "", step, lambda _: Outcome(0.0, None))

    size = 64 << 20
    assert fresh.first_steps(candidate(2 * size), candidate(size)).extra == pytest.approx(size, rel=0.05)


def test_a_child_that_fails_says_why() -> None:
    with pytest.raises(RuntimeError, match="StopIteration"):
        fresh.in_child("numpy", Problem("softmax", 4, 3), "nobody", "value")


def test_copy_floor_copies() -> None:
    copy = machine.copy_floor(Problem("softmax", 512, 1000))
    assert copy.step().all()


@pytest.mark.parametrize(
    "arguments",
    [
        ["--losses", "focal"],
        ["--shapes", "10"],
        ["--losses", "softmax-2"],
        ["--framework", "numpy", "--targets", "soft"],
        ["--framework", "numpy", "--dtypes", "float64"],
    ],
)
def test_bad_options(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse(arguments)
    assert "must be" in capsys.readouterr().err


def test_unknown_path() -> None:
    with pytest.raises(SystemExit, match="fast is not one of value"):
        main(["--framework", "numpy", "--tiny", "--paths", "fast"])


def test_no_gpu() -> None:
    torch = pytest.importorskip("torch")
    if torch.cuda.is_available():
        pytest.skip("there is one")
    with pytest.raises(SystemExit, match="no GPU"):
        main(["--framework", "torch", "--tiny", "--device", "cuda"])


def test_tiny_run_prints_the_table_and_writes_the_page(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    pytest.importorskip("matplotlib")
    page = tmp_path / "new" / "machine.md"
    command = [
        sys.executable,
        "-m",
        "benchmarks.run",
        "--tiny",
        "--framework",
        "torch",
        "--losses",
        "softmax",
        "focal-2",
    ]
    result = subprocess.run([*command, "--out", str(page)], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stderr
    for text in ("## torch, cpu", "- CPU: ", "cbcore", "torchvision's formula", "closed form", "rounds dropped"):
        assert text in result.stdout
    rows = [line.split()[5:8:2] for line in result.stdout.splitlines() if line.startswith("| focal-2 ")]
    usual = [["float32", "index"], ["bfloat16", "index"]]
    rare = [["float16", "index"], ["float64", "index"], ["float32", "soft"], ["float32", "smoothed"]]
    assert sorted(rows) == sorted([*usual, *usual, *rare])  # the kernels, and the closed form
    (run,) = json.loads(page.with_suffix(".json").read_text())
    measured = [one for one in run["records"] if one["fresh"] is not None]
    assert {one["kind"] for one in measured} == {"ours", "peer"}
    assert all(one["extra"] > 0 for one in measured)
    assert page.read_text().count("| focal-2 ") == len(rows)
    assert page.with_suffix(".svg").stat().st_size > 0
