"""Which image files a large data set has, and their classes: iNaturalist from its JSON files, ILSVRC from folders."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

Integers: TypeAlias = npt.NDArray[np.int64]


class Listing(NamedTuple):
    """Files relative to the data folder, and the class of each."""

    files: list[str]
    labels: Integers


def read_listings(data: Path, dataset: str) -> tuple[Listing, Listing, int]:
    """Return training listing, test listing (the official validation set) and the number of classes."""
    read = _ilsvrc if dataset == "ilsvrc2012" else _inaturalist
    train, test, num_classes = read(data, dataset)
    for listing in (train, test):
        check_files(data, listing)
    return train, test, num_classes


def check_files(data: Path, listing: Listing) -> None:
    """Check that every file is there, by reading each folder once: before training, not in its third hour."""
    wanted: dict[str, set[str]] = {}
    for name in listing.files:
        folder, _, file = name.rpartition("/")
        wanted.setdefault(folder, set()).add(file)
    missing = []
    for folder, names in wanted.items():
        there = set(os.listdir(data / folder)) if (data / folder).is_dir() else set()
        missing += [f"{folder}/{name}" for name in sorted(names - there)]
    if missing:
        raise FileNotFoundError(
            f"--data must hold all images that are listed, {len(missing)} are missing, the first is {missing[0]}; "
            f"unpack the image archive into {data}"
        )


def _inaturalist(data: Path, dataset: str) -> tuple[Listing, Listing, int]:
    year = dataset.removeprefix("inat")
    train, classes = read_coco(data / f"train{year}.json")
    test, test_classes = read_coco(data / f"val{year}.json")
    if classes != test_classes:
        raise ValueError(
            f"train{year}.json and val{year}.json must have the same categories, got {len(classes)} and "
            f"{len(test_classes)}; are they of the same year?"
        )
    return train, test, len(classes)


def read_coco(path: Path) -> tuple[Listing, list[int]]:
    """Read one COCO-style file; classes are numbered in the order of the category ids, which are returned."""
    content = _load_json(path)
    with _naming(path, "images", "id and file_name"):
        names = {image["id"]: str(image["file_name"]) for image in content["images"]}
    with _naming(path, "categories", "id"):
        ids = sorted({int(category["id"]) for category in content["categories"]})
    number = {category: i for i, category in enumerate(ids)}
    with _naming(path, "annotations", "image_id and category_id, which images and categories have"):
        pairs = [(names[a["image_id"]], number[a["category_id"]]) for a in content["annotations"]]
    if not pairs:
        raise ValueError(f"{path.name} must have annotations, got none; the test set's file has no labels")
    return Listing([name for name, _ in pairs], np.array([label for _, label in pairs], np.int64)), ids


@contextmanager
def _naming(path: Path, part: str, needs: str) -> Iterator[None]:
    """Say which part of a JSON file is wrong where reading it fails."""
    try:
        yield
    except (KeyError, TypeError, ValueError) as error:
        got = f"no {error}" if isinstance(error, KeyError) else str(error)
        reason = f"{path.name} must have {part}, each with {needs}, got {got}; is it the official annotation file?"
        raise ValueError(reason) from error


def _load_json(path: Path) -> Any:
    if not path.is_file():
        raise FileNotFoundError(f"--data must hold {path.name}, which is not in {path.parent}; unpack the annotations")
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path.name} must be JSON, got {error}; it may be cut off, so unpack it again") from error


def _ilsvrc(data: Path, dataset: str) -> tuple[Listing, Listing, int]:
    train, classes = read_folders(data, "train")
    test, test_classes = read_folders(data, "val")
    if classes != test_classes:
        odd = sorted(set(classes) ^ set(test_classes))
        raise ValueError(
            f"train and val must have the same class folders, got {len(classes)} and {len(test_classes)}, "
            f"only one has {odd[0]}; sort the validation images of {dataset} into folders as the training images are"
        )
    return train, test, len(classes)


def read_folders(data: Path, split: str) -> tuple[Listing, list[str]]:
    """List the images of one folder a class; classes are numbered in the order of their names."""
    root = data / split
    classes = sorted(entry.name for entry in root.iterdir() if entry.is_dir()) if root.is_dir() else []
    if not classes:
        raise FileNotFoundError(
            f"--data must hold {split}/ with a folder of images for each class, such as {split}/n01440764, "
            f"got none in {data}; sort the images into folders"
        )
    files: list[str] = []
    labels: list[int] = []
    for label, name in enumerate(classes):
        images = sorted(f for f in os.listdir(root / name) if f.lower().endswith((".jpeg", ".jpg", ".png")))
        if not images:
            raise FileNotFoundError(f"{split}/{name} must have JPEG or PNG images, got none; unpack the archive again")
        files += [f"{split}/{name}/{image}" for image in images]
        labels += [label] * len(images)
    return Listing(files, np.array(labels, np.int64)), classes
