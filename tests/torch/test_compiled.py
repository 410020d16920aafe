"""What torch.compile makes of a step: it reads the logits twice, and stores nothing of their size but the gradient."""

import math
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor
from torch.nn import functional

import cbcore_torch
from tests.support.losses import functions

pytestmark = pytest.mark.skipif(shutil.which("g++") is None, reason="needs a C++ compiler, as Inductor does on a CPU")

ROWS, CLASSES = 256, 1000
SIZE = ROWS * CLASSES
LOSSES = {
    **functions(cbcore_torch),
    **{f"focal-{gamma}": partial(cbcore_torch.sigmoid_focal_loss, gamma=gamma) for gamma in (1.0, 2.0)},
}


class Memory(NamedTuple):
    """What the kernels of a step move of the size of the logits, by the names of Inductor's buffers."""

    read: list[str]
    written: list[str]


@contextmanager
def watched() -> Iterator[Memory]:
    """Collect what each kernel of the compiled graphs reads from others and leaves behind.

    What stays inside a kernel, or is overwritten there by the next operation, is no buffer. A kernel of several loops
    over a row reads it once.
    """
    from torch._inductor.scheduler import Scheduler
    from torch._inductor.virtualized import V

    memory, generate = Memory([], []), Scheduler.codegen

    def codegen(scheduler: Any) -> Any:
        nodes = list(scheduler.nodes)
        result = generate(scheduler)
        inside = V.graph.removed_buffers | V.graph.inplaced_to_remove
        for node in nodes:
            own = set(node.get_buffer_names())
            memory.read.extend({one.name for one in node.read_writes.reads if touched(one) >= SIZE} - own)
            memory.written.extend(name for name in own - inside if elements(V.graph.get_buffer(name)) >= SIZE)
        return result

    def touched(dependency: Any) -> int:
        steps = getattr(dependency, "size", None)  # of the loop: fewer than the buffer has, where it is indexed
        return int(dependency.get_numel()) if steps is None else math.prod(map(int, steps))

    def elements(buffer: Any) -> int:
        if not hasattr(buffer.layout, "size"):
            return SIZE  # it changes another one in place: a scatter
        return math.prod(map(int, buffer.layout.size))

    caches = (  # they would leave nothing to generate
        torch._inductor.config.patch(fx_graph_cache=False),
        torch._functorch.config.patch(enable_autograd_cache=False),
    )
    with caches[0], caches[1], pytest.MonkeyPatch.context() as patch:
        patch.setattr(Scheduler, "codegen", codegen)
        yield memory


def step(loss: Callable[[Tensor], Tensor]) -> Memory:
    """Compile and run a step; its numbers are right too."""
    logits = torch.randn(ROWS, CLASSES, generator=torch.Generator().manual_seed(0)).requires_grad_()
    with watched() as memory:
        torch.compiler.reset()
        value = torch.compile(loss, fullgraph=True)(logits)
        (gradient,) = torch.autograd.grad(value, logits)
    expected = loss(logits)
    torch.testing.assert_close(value, expected)
    torch.testing.assert_close(gradient, torch.autograd.grad(expected, logits)[0])
    return memory


TARGET = torch.randint(CLASSES, (ROWS,), generator=torch.Generator().manual_seed(1))
TARGET[::50] = -100
WEIGHTS = torch.linspace(0.1, 2, CLASSES)


@pytest.mark.parametrize(
    ("name", "smoothing"), [*((name, 0.0) for name in LOSSES), ("softmax", 0.1), ("sigmoid", 0.1), ("focal-2.0", 0.1)]
)
def test_inductor_stores_only_the_gradient(name: str, smoothing: float) -> None:
    memory = step(lambda z: LOSSES[name](z, TARGET, WEIGHTS, label_smoothing=smoothing))
    assert len(memory.written) == 1, memory
    assert len(memory.read) == 2, memory
    assert len(set(memory.read)) == 1, memory


def test_what_is_stored_or_read_again_is_noticed() -> None:
    def scattered(z: Tensor) -> Tensor:
        return -z.log_softmax(1).gather(1, TARGET.clamp(0)[:, None]).mean()

    memory = step(scattered)
    assert len(memory.written) > 1

    def sorted_first(z: Tensor) -> Tensor:
        return functional.softplus(z).sort(1).values.mul(WEIGHTS).sum()

    memory = step(sorted_first)
    assert len(memory.written) > 1
    assert len(memory.read) > 2
