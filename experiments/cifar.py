"""CIFAR-10 and CIFAR-100 from their official binary files, long-tailed, on the device."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

import cbcore
from experiments.processes import Processes
from experiments.recipe import Recipe
from experiments.seeds import Stream, epoch_order, generator

Bytes: TypeAlias = npt.NDArray[np.uint8]
Integers: TypeAlias = npt.NDArray[np.int64]

SIDE, PAD = 32, 4
PIXELS = 3 * SIDE * SIDE


class Layout(NamedTuple):
    """Where the official archive keeps what. The last of the label bytes is the class."""

    folder: str
    train: tuple[str, ...]
    test: str
    label_bytes: int
    num_classes: int


LAYOUTS = {
    "cifar10": Layout(
        "cifar-10-batches-bin", tuple(f"data_batch_{i}.bin" for i in range(1, 6)), "test_batch.bin", 1, 10
    ),
    "cifar100": Layout("cifar-100-binary", ("train.bin",), "test.bin", 2, 100),
}


def find_files(data: Path, layout: Layout) -> tuple[list[Path], Path]:
    """Return the training files and the test file, in `data` or in the archive's folder inside it.

    CIFAR-10 may have fewer than five training files, but none may be missing before the last.
    """
    folder = data / layout.folder if (data / layout.folder).is_dir() else data
    there = [name for name in layout.train if (folder / name).is_file()]
    for name in (*layout.train[: max(len(there), 1)], layout.test):
        if not (folder / name).is_file():
            raise FileNotFoundError(
                f"--data must hold {layout.folder}/{name} of the *binary* CIFAR archive, which is not in {data}; "
                f"unpack the archive there (the Python and Matlab versions will not do)"
            )
    return [folder / name for name in there], folder / layout.test


def read_file(path: Path, layout: Layout) -> tuple[Bytes, Integers]:
    """Read one file: images of shape (n, 32, 32, 3), labels of shape (n,)."""
    size, record = path.stat().st_size, layout.label_bytes + PIXELS
    if size == 0 or size % record:
        raise ValueError(
            f"{path.name} must be a whole number of records of {record} bytes, got {size} bytes; "
            f"it is cut off or of another data set, so unpack the archive again"
        )
    records = np.fromfile(path, np.uint8).reshape(-1, record)
    labels = records[:, layout.label_bytes - 1].astype(np.int64)
    if labels.max() >= layout.num_classes:
        first = int(np.argmax(labels >= layout.num_classes))
        raise ValueError(
            f"{path.name} must have labels below {layout.num_classes}, got {labels[first]} in record {first}; "
            f"is it of another data set?"
        )
    planes = records[:, layout.label_bytes :].reshape(-1, 3, SIDE, SIDE)
    return np.ascontiguousarray(planes.transpose(0, 2, 3, 1)), labels


def read_split(data: Path, dataset: str) -> tuple[Bytes, Integers, Bytes, Integers]:
    """Read training images and labels, and test images and labels."""
    layout = LAYOUTS[dataset]
    train_files, test_file = find_files(data, layout)
    parts = [read_file(path, layout) for path in train_files]
    images, labels = (np.concatenate(part) for part in zip(*parts, strict=True))
    return images, labels, *read_file(test_file, layout)


def check_head(available: Integers, max_count: int) -> None:
    """Check that class 0, which the long tail is cut from, is complete: a missing file would show only here."""
    if available[0] != max_count:
        raise ValueError(
            f"--data must have {max_count} training images of class 0, got {available[0]}; add the missing files, "
            f"or say --max-count {available[0]} to make the long tail from what is there"
        )


@dataclass(frozen=True)
class Cifar:
    """A long-tailed CIFAR on the device: ``train_images`` are padded for cropping, both are (n, height, width, 3)."""

    train_images: Tensor
    train_labels: Tensor
    test_images: Tensor
    test_labels: Tensor
    class_counts: Integers
    available_counts: Integers
    digest: str

    @property
    def sizes(self) -> tuple[int, int]:
        """Training and test images."""
        return len(self.train_labels), len(self.test_labels)

    def train_batches(
        self, recipe: Recipe, epoch: int, first: int, processes: Processes
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield this process's part of each batch of an epoch, from step `first` on."""
        order = epoch_order(recipe, epoch, len(self.train_labels))
        rng, device = generator(recipe.seed, Stream.AUGMENTATION, epoch), self.train_images.device
        # Drawn for the whole epoch, so that neither the steps before `first` nor the number of processes matter.
        draws = np.stack([*rng.integers(0, 2 * PAD + 1, (2, *order.shape)), rng.integers(0, 2, order.shape)])
        parts = processes.part(np.stack([order, *draws], axis=1)[first:])
        for index, top, left, flip in torch.from_numpy(parts).to(device):
            yield to_float(crop(self.train_images, index, top, left, flip)), self.train_labels[index]

    def test_batches(self, rows: range, batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the test images of these rows in order."""
        for first in range(rows.start, rows.stop, batch_size):
            batch = slice(first, min(first + batch_size, rows.stop))
            yield to_float(self.test_images[batch]), self.test_labels[batch]


def load(data: Path, recipe: Recipe, device: torch.device) -> Cifar:
    """Read CIFAR and keep a long-tailed subset of its training images."""
    images, labels, test_images, test_labels = read_split(data, recipe.dataset)
    available = cbcore.class_counts(labels, LAYOUTS[recipe.dataset].num_classes)
    check_head(available, recipe.max_count or 0)
    kept = cbcore.long_tailed_indices(labels, recipe.imbalance or 1.0, seed=recipe.seed)
    images, labels = images[kept], labels[kept]
    digest = hashlib.sha256(images.tobytes() + labels.tobytes()).hexdigest()
    padded = np.pad(images, ((0, 0), (PAD, PAD), (PAD, PAD), (0, 0)))
    return Cifar(
        train_images=torch.from_numpy(padded).to(device),
        train_labels=torch.from_numpy(labels).to(device),
        test_images=torch.from_numpy(test_images).to(device),
        test_labels=torch.from_numpy(test_labels).to(device),
        class_counts=cbcore.class_counts(labels, len(available)),
        available_counts=available,
        digest=digest,
    )


def crop(padded: Tensor, index: Tensor, top: Tensor, left: Tensor, flip: Tensor) -> Tensor:
    """Cut a window out of each padded image and mirror it where `flip` is 1; one gather for the whole batch."""
    span = torch.arange(SIDE, device=padded.device)
    rows = top[:, None] + span
    columns = left[:, None] + torch.where(flip[:, None] == 1, SIDE - 1 - span, span)
    return padded[index[:, None, None], rows[:, :, None], columns[:, None, :]]


def to_float(images: Tensor) -> Tensor:
    """Return bytes (n, height, width, 3) as floats in [-1, 1), seen as (n, 3, height, width) in channels-last order."""
    return images.permute(0, 3, 1, 2).float() / 128 - 1
