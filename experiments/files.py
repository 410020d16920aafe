"""Files that are either old or new, never half written."""

import fcntl
import json
import os
import pickle
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch


def write_text(path: Path, text: str) -> None:
    """Replace a text file in one step."""
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text(text, encoding="utf-8")
    os.replace(temporary, path)


def write_json(path: Path, value: Any) -> None:
    """Replace a JSON file in one step; NaN is an error, since JSON has none."""
    write_text(path, json.dumps(value, indent=1, allow_nan=False) + "\n")


def write_lines(path: Path, values: Iterable[Any]) -> None:
    """Replace a file of one JSON value a line."""
    write_text(path, "".join(json.dumps(value, allow_nan=False) + "\n" for value in values))


def write_array(path: Path, array: npt.NDArray[Any]) -> None:
    """Replace a NumPy file in one step."""
    temporary = path.with_name(path.name + ".tmp")
    with temporary.open("wb") as file:
        np.save(file, array, allow_pickle=False)
    os.replace(temporary, path)


def write_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Replace a checkpoint in one step, also when the machine goes down."""
    temporary = path.with_name(path.name + ".tmp")
    with temporary.open("wb") as file:
        torch.save(state, file)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)


def read_checkpoint(path: Path, device: torch.device) -> dict[str, Any]:
    """Read a checkpoint: tensors and plain values only, nothing that could run code."""
    try:
        state: dict[str, Any] = torch.load(path, map_location=device, weights_only=True)
    except (RuntimeError, EOFError, pickle.UnpicklingError) as error:
        reason = f"{path} must be a checkpoint of this program, got {error}; remove it to train from the beginning"
        raise ValueError(reason) from error
    return state


def read_json(path: Path) -> Any:
    """Read a JSON file."""
    return json.loads(path.read_text(encoding="utf-8"))


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep other processes out of a folder. The lock ends with this process, however that ends."""
    with (folder / "lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            reason = f"--out must not be in use, got {folder}, where another process trains; wait for it or end it"
            raise ValueError(reason) from None
        yield
