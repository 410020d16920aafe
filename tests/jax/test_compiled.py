"""What XLA makes of a step: it reads the logits twice, and needs no memory of their size but the gradient's."""

import re
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import pytest

import cbcore_jax
from tests.support.losses import taught

ROWS, CLASSES = 256, 1000
SHAPES = (
    jax.ShapeDtypeStruct((ROWS, CLASSES), jnp.float32),
    jax.ShapeDtypeStruct((ROWS,), jnp.int32),
    jax.ShapeDtypeStruct((CLASSES,), jnp.float32),
)
BYTES = 4 * ROWS * CLASSES
LOSSES = {
    **taught(cbcore_jax),
    **{f"focal-{gamma}": partial(cbcore_jax.sigmoid_focal_loss, gamma=gamma) for gamma in (1.0, 2.0)},
}


def compiled(loss: Callable[..., Any]) -> Any:
    return jax.jit(jax.value_and_grad(loss)).lower(*SHAPES).compile()


def readers(text: str) -> list[str]:
    """Return the operations of a program that read all of its first argument; a gather reads an element a row."""
    bodies = dict(re.findall(r"^(?:ENTRY )?%?([\w.-]+) \(.*?\{\n(.*?)^\}", text, re.MULTILINE | re.DOTALL))
    (entry,) = re.findall(r"^ENTRY %?([\w.-]+)", text, re.MULTILINE)
    return _readers(bodies, bodies[entry], 0)


def _readers(bodies: dict[str, str], body: str, number: int) -> list[str]:
    (name,) = re.findall(rf"%?([\w.-]+) = \S+ parameter\({number}\)", body)
    found = []
    for operation, kind, rest in re.findall(r"%?([\w.-]+) = .*? ([\w-]+)\((.*)", body):
        operands = re.findall(r"%([\w.-]+)", rest.partition(")")[0])
        called = re.search(r"calls=%?([\w.-]+)", rest)
        if name not in operands or kind == "gather":
            continue
        if kind in ("fusion", "call") and called and not _readers(bodies, bodies[called[1]], operands.index(name)):
            continue
        found.append(operation)
    return found


@pytest.mark.parametrize("name", LOSSES)
def test_only_the_gradient_is_stored(name: str) -> None:
    program = compiled(LOSSES[name])
    memory = program.memory_analysis()
    assert memory.output_size_in_bytes == pytest.approx(BYTES, rel=0.01)
    assert memory.temp_size_in_bytes < 0.02 * BYTES
    assert 1 <= len(readers(program.as_text())) <= 2


def test_what_is_stored_or_read_again_is_noticed() -> None:
    def stored(z: Any, y: Any, w: Any) -> Any:
        return (jnp.sort(z, axis=1) * w[None]).sum() + LOSSES["focal-2.0"](z, y, w)

    program = compiled(stored)
    assert program.memory_analysis().temp_size_in_bytes > BYTES
    assert len(readers(program.as_text())) > 2


def test_a_gather_reads_next_to_nothing() -> None:
    program = compiled(lambda z, y, _: jnp.take_along_axis(z, y[:, None], 1).sum())
    assert readers(program.as_text()) == []
