"""The tables of docs/reference/paths.md: PyTorch's paths are asked, call by call, which of them takes it and why not.

python -m tests.support.paths_page            # writes them into the page

What is asked are the public functions; only the paths' own arithmetic is left out.
"""

import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import patch

import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.utils._python_dispatch import TorchDispatchMode

import cbcore_torch
from cbcore_torch import _proof
from cbcore_torch._paths import PATHS, Taken, numba, small, triton

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "paths.md"
MARKS = "<!-- paths: begin -->", "<!-- paths: end -->"

softmax, focal = cbcore_torch.softmax_cross_entropy, cbcore_torch.sigmoid_focal_loss


class Place(NamedTuple):
    """Where a call may run. Nothing is computed on meta, which stands for every device but the CPU."""

    device: str
    has_numba: bool = False
    has_triton: bool = False


class Row(NamedTuple):
    """A call in words, and what differs in it from float32 logits (512, 1000) with class indices."""

    words: str
    loss: Callable[..., Tensor] = softmax
    shape: tuple[int, ...] = (512, 1000)
    dtype: torch.dtype = torch.float32
    targets: str = "index"
    options: dict[str, Any] = {}  # noqa: RUF012
    around: Callable[[], Any] = ExitStack


PLACES = {
    "CPU, with numba": Place("cpu", has_numba=True),
    "CPU": Place("cpu"),
    "CUDA, with Triton": Place("meta", has_triton=True),
    "other devices": Place("meta"),
}
SMALL = (128, 10)
LEARNED = torch.ones(10, requires_grad=True)
ROWS = (
    Row("128 x 10 logits, softmax", shape=SMALL),
    Row("128 x 10, focal, γ = 2", focal, SMALL, options={"gamma": 2.0}),
    Row("128 x 10, focal, γ = 1.5", focal, SMALL, options={"gamma": 1.5}),
    Row("128 x 10, some samples ignored", shape=SMALL, targets="ignored"),
    Row("128 x 10, `reduction=\"weighted_mean\"`", shape=SMALL, options={"reduction": "weighted_mean"}),
    Row("512 x 1000 logits, softmax or focal"),
    Row("the same, bfloat16", dtype=torch.bfloat16),
    Row("the same, float16", dtype=torch.float16),
    Row("the same, float64", dtype=torch.float64),
    Row("an image, (2, 19, 64, 64)", shape=(2, 19, 64, 64)),
    Row("focal, γ = 8", focal, options={"gamma": 8.0}),
    Row("focal, γ = 16", focal, options={"gamma": 16.0}),
    Row("soft or multi-hot targets", targets="soft"),
    Row("`label_smoothing`", options={"label_smoothing": 0.1}),
    Row("under a `TorchDispatchMode`, such as a counter", around=lambda: _Looks()),
    Row("class weights that require a gradient", shape=SMALL, options={"class_weights": LEARNED}),
    Row("no sample at all", shape=(0, 1000)),
    Row("forward-mode AD, `torch.func`, `torch.compile`, `torch.export`", around=forward_ad.dual_level),
)  # fmt: skip


class _Looks(TorchDispatchMode):
    def __torch_dispatch__(self, function: Any, types: Any, arguments: Any = (), options: Any = None) -> Any:
        return function(*arguments, **options or {})


def ask(row: Row, place: Place) -> Taken:
    """Return which path takes a call, and why those before it do not."""
    logits = torch.zeros(row.shape, dtype=row.dtype, device=place.device)
    target = logits.softmax(1) if row.targets == "soft" else logits.argmax(1)
    if row.targets == "ignored":
        target[:3] = -100
    options = {k: v.to(place.device) if isinstance(v, Tensor) else v for k, v in row.options.items()}
    with _as_in(place), row.around(), cbcore_torch.paths() as taken:
        row.loss(logits, target, **options)
    return taken[0]


@contextmanager
def _as_in(place: Place) -> Iterator[None]:
    """Let the paths find what a place has, and kernels that have proved themselves; they themselves do not run."""
    with ExitStack() as stack:
        for path in (small, numba):
            stack.enter_context(patch.object(path, "numba_is_installed", lambda: place.has_numba))
        for path in (numba, triton):
            stack.enter_context(patch.dict(vars(path), {"loss": lambda call: call.input.new_zeros(())}))
            vars(path).pop("run", None)
        if place.has_triton:
            stack.enter_context(patch.object(triton, "DEVICES", (place.device,)))
            stack.enter_context(patch.object(_proof, "refusal", lambda *_: None))
        yield


def tables() -> str:
    """Return the paths in their order, which call takes which, and all reasons that were given, in Markdown."""
    asked = {(row.words, name): ask(row, place) for row in ROWS for name, place in PLACES.items()}
    order = [f"{i}. **{path.NAME}**. {path.__doc__.splitlines()[0]}\n" for i, path in enumerate(PATHS, 1)]
    lines = [["call", *PLACES], ["---"] * (len(PLACES) + 1)]
    lines += [
        [row.words, *(asked[row.words, name].path.replace(" ", "\N{NO-BREAK SPACE}") for name in PLACES)]
        for row in ROWS
    ]
    reasons: dict[str, dict[str, None]] = {path.NAME: {} for path in PATHS[:-1]}
    for taken in asked.values():
        for path, reason in taken.refused.items():
            reasons[path][_in_general(reason)] = None
    shared = set.intersection(*map(set, reasons.values()))
    own = {path: [reason for reason in some if reason not in shared] for path, some in reasons.items()}
    why = []
    for path, some in {"all but the composite": sorted(shared), **own}.items():
        why += [f"* {path}\n", *(f"  * {reason}\n" for reason in some)] if some else []
    table = "".join(f"| {' | '.join(line)} |\n" for line in lines)
    return "".join([*order, "\n", table, "\nThe reasons that these calls were given:\n\n", *why])


def _in_general(reason: str) -> str:
    """Return a reason without what differs from call to call."""
    return re.sub(r"(?<=gamma=)[\d.]+|(?<=the device )\w+(?=;)", "…", reason)


def page(text: str) -> str:
    """Return the page with the tables of today."""
    begin, end = map(re.escape, MARKS)
    return re.sub(f"({begin}\n).*({end})", lambda m: f"{m[1]}\n{tables()}\n{m[2]}", text, flags=re.DOTALL)


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text()))
