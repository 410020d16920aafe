"""What a GPU will be asked is rehearsed here as a whole, on a CPU; and what goes wrong in it is seen."""

import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from benchmarks import bytes as count  # noqa: E402
from benchmarks import gpu  # noqa: E402
from benchmarks.cuda import Rehearsal  # noqa: E402
from benchmarks.gpu import Result, Work  # noqa: E402
from benchmarks.problem import Candidate, Outcome  # noqa: E402

WORK = Work(Rehearsal(), True, (16, 50), "float32")


def test_rehearsal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = tmp_path / "gpu.md"
    gpu.main(["--device", "cpu", "--tiny", "--out", str(page)])
    text = page.read_text()
    found = json.loads(page.with_suffix(".json").read_text())
    assert [part["name"].split()[0] for part in found["parts"]] == list(gpu.PARTS)
    assert [part["state"] for part in found["parts"]] == ["done"] * len(gpu.PARTS)
    assert all(len(part["rows"]) >= 2 for part in found["parts"])
    candidates = {row["candidate"] for row in found["parts"][-1]["rows"] if "seconds" in row}
    assert candidates >= {
        "cbcore", "cbcore, in a CUDA graph", "F.cross_entropy(weight)", "torchvision's formula", "kornia's formula",
        "torch.compile(iota compare)", "torch.compile(F.cross_entropy)", "torch.compile(cbcore)",
    }  # fmt: skip
    assert "rehearsal" in text
    assert "Liger" in text
    assert capsys.readouterr().out.count("\n## ") == len(gpu.PARTS) - 1


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu(tmp_path: Path) -> None:
    page = tmp_path / "gpu.md"
    gpu.main(["--out", str(page)])
    assert "not run" in page.read_text()
    page.write_text("what a GPU said")
    page.with_suffix(".json").write_text("{}")
    gpu.main(["--out", str(page)])
    assert page.read_text() == "what a GPU said"
    with pytest.raises(SystemExit, match="sees no GPU"):
        gpu.main(["--part", "waits"])


def test_budgets_are_six_minutes_together() -> None:
    assert sum(gpu.SECONDS[name.split()[0]] for name, _ in gpu.parts(tiny=False)) <= 360


def test_a_part_that_is_late_or_fails_costs_no_other() -> None:
    late = gpu.in_child("waits", ["--device", "cpu", "--tiny"], 0.01)
    assert (late.state, late.rows) == ("ended after 0.01 s", [])
    failed = gpu.in_child("times", ["--dtype", "int8"], 60)
    assert failed.state.startswith("failed (2)")
    assert "int8" in failed.state


def test_a_rehearsal_is_tiny() -> None:
    with pytest.raises(SystemExit):
        gpu.main(["--device", "cpu"])


@pytest.mark.parametrize("part", ["correctness", "graphs", "compile"])
def test_a_wrong_loss_is_seen(part: str, monkeypatch: pytest.MonkeyPatch) -> None:
    right, calls = count.FUNCTIONS["softmax"], []

    def drifting(*args: Any, **options: Any) -> Any:
        calls.append(1)
        return right(*args, **options) * (1 + 0.01 * len(calls))

    monkeypatch.setitem(count.FUNCTIONS, "softmax", drifting)
    monkeypatch.setattr(Rehearsal, "backend", "eager")
    rows = list(gpu.PARTS[part](WORK))
    wrong = [row for row in rows if row["case"].startswith("softmax")]
    assert wrong
    assert sum("error" in row for row in wrong) > len(wrong) / 2
    assert not any("error" in row for row in rows if not row["case"].startswith("softmax"))


def test_a_wrong_or_slow_candidate_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    z = torch.ones(2, 3, requires_grad=True)
    reference = gpu.step(torch.sum, z)

    def candidate(loss: Any) -> Candidate:
        return Candidate("peer", "another", "", partial(gpu.step, loss, z), lambda _: Outcome(0.0, None))

    gpu._check(candidate(torch.sum), reference, 1e-3)
    with pytest.raises(ValueError, match=r"off by 0\.01"):
        gpu._check(candidate(lambda z: z.sum() * 1.01), reference, 1e-3)
    with pytest.raises(ValueError, match="off by inf"):
        gpu._check(candidate(lambda z: z.sum() * float("nan")), reference, 1e-3)
    monkeypatch.setattr(gpu, "SLOW", 0)
    with pytest.raises(TimeoutError, match="a step"):
        gpu._check(candidate(torch.sum), reference, 1e-3)


def timing(candidate: str, seconds: float, ratio: float, **others: Any) -> dict[str, Any]:
    title = {"loss": "focal-2", "logits": "8192x100000", "dtype": "bfloat16", "candidate": candidate}
    return {**title, "seconds": seconds, "fastest": seconds, "copies": 2.0, "ratio": ratio, "memory": 1.0, **others}


def test_page() -> None:
    looked = [{"case": "a", "path": "closed form"}, {"case": "b", "path": "closed form", "error": "ValueError: no"}]
    ours = timing("cbcore", 2.0e-3, 1, path="triton", refused={"small": "logits on a GPU"})
    peers = [timing("torchvision's formula", 40e-3, 20), {**timing("Liger", 1, 1), "note": "it is not installed"}]
    del peers[1]["seconds"]
    results = [
        Result("waits", "ended after 30 s", 30.0, looked),
        Result("times 8192x100000 bfloat16", "done", 9.0, [ours, *peers]),
    ]
    text = gpu.page({"GPU": "a GPU"}, results)
    for words in (
        "# One GPU: a GPU", "## Waits", "ended after 30 s, 30 s", "1 of 2 right", "- closed form: 2",
        "- b: ValueError: no", "2.00 ms (2.00 ms) (≤ 2.10 ms met)", "20.0x (≥ 25 MISSED)", "| triton |",
        "- small refused: logits on a GPU", "- focal-2 8192x100000 bfloat16 Liger: it is not installed",
    ):  # fmt: skip
        assert words in text, text
    assert [len(result.failures) for result in results] == [1, 0]
