"""iNaturalist and ILSVRC: workers read, crop and scale the images; what is random comes from (seed, epoch, image)."""

import hashlib
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

import cbcore
from experiments.listings import Integers, Listing, read_listings
from experiments.processes import Processes
from experiments.recipe import Recipe
from experiments.seeds import Stream, epoch_order, generator

Box: TypeAlias = tuple[int, int, int, int]  # left, top, right, bottom, as Pillow has it

# Mean and deviation of red, green and blue in [0, 1], as in the authors' code.
COLOURS = {
    "ilsvrc2012": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "inat2017": ((0.466, 0.471, 0.380), (0.195, 0.194, 0.192)),
    "inat2018": ((0.466, 0.471, 0.380), (0.195, 0.194, 0.192)),
}
CENTRE = 224 / 256  # share of the shorter side that is tested


class Images(Dataset[tuple[Tensor, int]]):
    """Images as bytes (size, size, 3) with their classes; ``epoch`` None means the test's centre crop."""

    def __init__(self, data: Path, listing: Listing, size: int, seed: int = 0, epoch: int | None = None) -> None:
        self.data, self.listing, self.size, self.seed, self.epoch = data, listing, size, seed, epoch

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        image = read_image(self.data / self.listing.files[index])
        flip = False
        if self.epoch is None:
            box = centre_box(*image.size)
        else:
            rng = generator(self.seed, Stream.AUGMENTATION, self.epoch, index)
            box, flip = random_box(rng, *image.size), bool(rng.integers(2))
        pixels = np.array(image.resize((self.size, self.size), Image.Resampling.BICUBIC, box))
        return torch.from_numpy(pixels[:, ::-1].copy() if flip else pixels), int(self.listing.labels[index])


def read_image(path: Path) -> Image.Image:
    """Read an image as red, green and blue."""
    try:
        with Image.open(path) as image:
            return image.convert("RGB")
    except (UnidentifiedImageError, OSError, SyntaxError) as error:
        raise ValueError(
            f"{path.name} must be a complete image, got {error}; unpack it again ({path.parent})"
        ) from error


def random_box(rng: np.random.Generator, width: int, height: int) -> Box:
    """Return a window of 8 to 100 % of the area and of aspect ratio 3/4 to 4/3; the centre if ten tries do not fit."""
    for _ in range(10):
        area = width * height * rng.uniform(0.08, 1)
        ratio = math.exp(rng.uniform(math.log(3 / 4), math.log(4 / 3)))
        w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < w <= width and 0 < h <= height:
            left, top = int(rng.integers(width - w + 1)), int(rng.integers(height - h + 1))
            return left, top, left + w, top + h
    return centre_box(width, height)


def centre_box(width: int, height: int) -> Box:
    """Return the square in the middle, of 7/8 of the shorter side."""
    side = max(round(CENTRE * min(width, height)), 1)
    left, top = (width - side) // 2, (height - side) // 2
    return left, top, left + side, top + side


@dataclass(frozen=True)
class Large:
    """A large data set on disk; see `experiments.engine.Data`."""

    data: Path
    train: Listing
    test: Listing
    recipe: Recipe
    device: torch.device
    workers: int
    class_counts: Integers
    digest: str

    @property
    def available_counts(self) -> Integers:
        """Nothing is left out."""
        return self.class_counts

    @property
    def test_labels(self) -> Tensor:
        """Of the validation set."""
        return torch.from_numpy(self.test.labels)

    @property
    def sizes(self) -> tuple[int, int]:
        """Training and test images."""
        return len(self.train.files), len(self.test.files)

    def train_batches(
        self, recipe: Recipe, epoch: int, first: int, processes: Processes
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield this process's part of each batch of an epoch, from step `first` on."""
        order = processes.part(epoch_order(recipe, epoch, self.sizes[0])[first:])
        yield from self._load(Images(self.data, self.train, recipe.image_size, recipe.seed, epoch), order.tolist())

    def test_batches(self, rows: range, batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the test images of these rows in order."""
        batches = [list(rows[i : i + batch_size]) for i in range(0, len(rows), batch_size)]
        yield from self._load(Images(self.data, self.test, self.recipe.image_size), batches)

    def _load(self, images: Images, batches: list[list[int]]) -> Iterator[tuple[Tensor, Tensor]]:
        pinned = self.device.type == "cuda"
        loader = DataLoader(images, batch_sampler=batches, num_workers=self.workers, pin_memory=pinned)
        for pixels, labels in loader:
            yield self._to_float(pixels.to(self.device, non_blocking=True)), labels.to(self.device, non_blocking=True)

    def _to_float(self, pixels: Tensor) -> Tensor:
        mean, deviation = (torch.tensor(c, device=self.device) for c in COLOURS[self.recipe.dataset])
        return ((pixels / 255 - mean) / deviation).permute(0, 3, 1, 2)  # channels-last in memory


def load(data: Path, recipe: Recipe, device: torch.device, workers: int) -> Large:
    """List the images of a large data set."""
    train, test, num_classes = read_listings(data, recipe.dataset)
    counts = cbcore.class_counts(train.labels, num_classes)
    digest = hashlib.sha256("\n".join(train.files).encode() + train.labels.tobytes()).hexdigest()
    return Large(data, train, test, recipe, device, workers, counts, digest)
