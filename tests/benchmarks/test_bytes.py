"""The counter of bytes counts known operations as they are."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

torch = pytest.importorskip("torch")

from torch import Tensor  # noqa: E402
from torch.nn import functional  # noqa: E402

from benchmarks import bytes as program  # noqa: E402
from benchmarks.traffic import Traffic  # noqa: E402

N, C = 8, 50
SIZE = 4 * N * C  # bytes of x


class Given(NamedTuple):
    x: Tensor  # (N, C)
    y: Tensor  # (N,) int64
    w: Tensor  # (C,)


def given(device: str = "cpu") -> Given:
    labels = torch.zeros(N, dtype=torch.int64, device=device)
    return Given(torch.ones(N, C, device=device), labels, torch.ones(C, device=device))


# bytes that an operation moves, and as the naive count has it
KNOWN: dict[str, tuple[Callable[[Given], object], int, int]] = {
    "one to one": (lambda g: g.x.exp(), 2 * SIZE, 2 * SIZE),
    "twice the same": (lambda g: g.x * g.x, 2 * SIZE, 3 * SIZE),
    "broadcast": (lambda g: g.x * g.w, 2 * SIZE + 4 * C, 2 * SIZE + 4 * C),
    "expanded": (lambda g: g.w.expand(N, C).exp(), SIZE + 4 * C, 2 * SIZE),
    "views": (lambda g: g.x.detach().t().view(C, N)[3:, None].unsqueeze(0), 0, 0),
    "new and empty": (lambda g: (torch.empty_like(g.x), g.x.new_empty(3)), 0, 0),
    "zeros": (lambda g: torch.zeros_like(g.x), SIZE, 2 * SIZE),
    "in place": (lambda g: g.x.mul_(2), 2 * SIZE, 2 * SIZE),
    "overwritten": (lambda g: g.x.zero_(), SIZE, 2 * SIZE),
    "out": (lambda g: torch.exp(g.x, out=g.x), 2 * SIZE, 3 * SIZE),
    "another dtype": (lambda g: g.x.double(), 3 * SIZE, 3 * SIZE),
    "a copy": (lambda g: g.x.t().contiguous(), 2 * SIZE, 2 * SIZE),
    "comparison": (lambda g: g.x > 0, SIZE + N * C, SIZE + N * C),
    "sum": (lambda g: g.x.sum(1), SIZE + 4 * N, SIZE + 4 * N),
    "gather": (lambda g: g.x.gather(1, g.y[:, None]), (4 + 4 + 8) * N, SIZE + (4 + 8) * N),
    "index_select": (lambda g: g.w.index_select(0, g.y), (4 + 4 + 8) * N, 4 * C + (4 + 8) * N),
    "index": (lambda g: g.x[g.y], 2 * SIZE + 8 * N, 2 * SIZE + 8 * N),
    "scatter": (lambda g: g.x.scatter_(1, g.y[:, None], 1), (4 + 8) * N, 2 * SIZE + 8 * N),
    "scatter_add": (lambda g: g.x.scatter_add_(1, g.y[:, None], g.w[:N, None]), (4 + 4 + 4 + 8) * N, 2 * SIZE + 12 * N),
    "index_put": (lambda g: g.x.index_put_((g.y, g.y), g.w[:N]), (4 + 4 + 8) * N, 2 * SIZE + (4 + 16) * N),
    "masked_fill": (lambda g: g.x.masked_fill_(g.y[:, None] == 1, 0), 2 * SIZE + (8 + 2) * N, 2 * SIZE + (8 + 2) * N),
    "one whose derivative PyTorch writes": (lambda g: torch.softmax(g.x, 1), 2 * SIZE, 2 * SIZE),
}  # fmt: skip


@pytest.mark.parametrize("device", ["cpu", "meta"])
@pytest.mark.parametrize("name", KNOWN)
def test_known_operations(name: str, device: str) -> None:
    operation, moved, naive = KNOWN[name]
    tensors = given(device)
    with Traffic(tensors) as traffic:
        operation(tensors)
    assert (traffic.moved, traffic.naive) == (moved, naive)
    assert traffic.moved == traffic.by_operation.total()


def test_operations_made_of_others_count_as_those() -> None:
    x = given().x
    targets = torch.ones_like(x)
    with Traffic([x, targets]) as whole:
        functional.binary_cross_entropy_with_logits(x, targets, reduction="none")
    assert whole.naive == 3 * SIZE
    assert whole.by_operation["log_sigmoid_forward"] == 3 * SIZE
    assert whole.moved > 2 * whole.naive


def test_cross_entropy() -> None:
    """Read and written: log softmax 2, its slope 3, and the slope of the pick once; its own input is not read."""
    x, y, _ = given()
    x.requires_grad_()
    with Traffic([x, y]) as traffic:
        functional.cross_entropy(x, y).backward()
    assert traffic.moved == pytest.approx(6 * SIZE, rel=0.05)
    assert traffic.naive == pytest.approx(8 * SIZE, rel=0.05)


def test_memory() -> None:
    x = given().x
    with Traffic([x]) as traffic:
        first = x + 1
        assert traffic.held() == SIZE
        view = first[:1]
        del first
        assert traffic.held() == SIZE  # by the view
        second = x.exp().exp().exp()
        assert traffic.held() == 2 * SIZE
        del view, second
        assert traffic.held() == 0
        x.mul_(2)  # known before
    assert traffic.held() == 0
    assert traffic.peak == 3 * SIZE


def test_what_autograd_keeps_is_held() -> None:
    x = torch.ones(N, C, requires_grad=True)
    with Traffic([x]) as traffic:
        loss = x.exp().sum()
        assert traffic.held() == SIZE + 4
        loss.backward()
        del loss
        assert traffic.held() == SIZE  # the gradient


def test_page_of_a_part(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "bytes.md"
    main = ["--losses", "softmax", "focal-0.5", "--dtypes", "float32", "float16", "--shape", "16", "200"]
    program.main([*main, "--out", str(out)])
    assert out.read_text() == capsys.readouterr().out[:-1]
    rows = json.loads(out.with_suffix(".json").read_text())
    ours = [row for row in rows if row["name"] == "cbcore"]
    assert len(ours) == 2 * 2 * 4 * 2  # losses, dtypes, targets, devices
    assert out.read_text().count("| focal-0.5 ") == len(ours) / 2
    assert {row["name"] for row in rows} >= {"F.cross_entropy", "torchvision's formula", "kornia's formula"}
    assert all(row["moved"] > 2 * row["peak"] > 0 for row in rows)


def test_operations_of_a_case(capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--losses", "softmax", "--targets", "index", "--dtypes", "float32", "--devices", "meta"]
    program.main([*options, "--shape", "16", "200", "--operations"])
    assert "softmax" in capsys.readouterr().out


@pytest.mark.parametrize("loss", ["sigmoid", "focal-2"])
@pytest.mark.parametrize("targets", program.TARGETS)
def test_peers_compute_our_loss(loss: str, targets: str) -> None:
    case = program.Case(loss, targets, "float64", "cpu")
    data = program.batch("float64", "cpu", 6, 9)
    expected = program.ours(case, data)(data.logits)
    for name, peer in program.peers(case, data).items():
        if name != "torchvision's formula" or targets in (
            "index",
            "weighted",
        ):  # of dense targets it makes another loss
            torch.testing.assert_close(peer(data.logits), expected)


@pytest.mark.parametrize("targets", program.TARGETS)
def test_peer_computes_our_softmax(targets: str) -> None:
    case = program.Case("softmax", targets, "float64", "cpu")
    data = program.batch("float64", "cpu", 6, 9)
    (peer,) = program.peers(case, data).values()
    scale = data.weights[data.labels].sum() / len(data.labels) if targets == "weighted" else 1  # it divides by weights
    torch.testing.assert_close(peer(data.logits) * scale, program.ours(case, data)(data.logits))
