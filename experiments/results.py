"""Finished cells, read back and put together over their seeds."""

import json
import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from experiments.recipe import Recipe, defaults

# What may differ from the paper without making it another experiment.
FREE = ("imbalance", "depth", "image_size", "sync_bn")


@dataclass(frozen=True)
class Group:
    """The cells of a recipe that differ in the seed only; `recipe` has the first one's."""

    recipe: Recipe
    results: tuple[dict[str, Any], ...]

    def percent(self, metric: str) -> "Estimate":
        """Return a metric in percent."""
        return self.metric(metric, 100.0)

    def metric(self, metric: str, scale: float = 1.0) -> "Estimate":
        """Return a metric over the seeds; NaN where it is not defined."""
        values = [result["metrics"][metric] for result in self.results]
        return estimate([math.nan if value is None else scale * value for value in values])


@dataclass(frozen=True)
class Estimate:
    """A mean over seeds and its standard error, NaN for a single seed."""

    mean: float
    error: float
    seeds: int

    def __str__(self) -> str:
        if math.isnan(self.mean):
            return "-"
        return f"{self.mean:.2f}" + ("" if math.isnan(self.error) else f" ± {self.error:.2f}")


def estimate(values: list[float]) -> Estimate:
    """Return mean and standard error."""
    error = float(np.std(values, ddof=1) / math.sqrt(len(values))) if len(values) > 1 else math.nan
    return Estimate(float(np.mean(values)), error, len(values))


def read_results(folder: Path) -> list[Group]:
    """Read every JSON file of a folder; the groups are in the order of their recipes."""
    groups: dict[Recipe, list[dict[str, Any]]] = {}
    for path in sorted(folder.glob("*.json")):
        recipe, result = read_result(path)
        groups.setdefault(replace(recipe, seed=0), []).append(result)
    return [Group(recipe, tuple(groups[recipe])) for recipe in sorted(groups, key=_order)]


def read_result(path: Path) -> tuple[Recipe, dict[str, Any]]:
    """Read one cell."""
    try:
        result = json.loads(path.read_text(encoding="utf-8"))
        recipe = Recipe(**{**result["recipe"], "milestones": tuple(result["recipe"]["milestones"])})
        missing = {"metrics", "history", "data"} - result.keys()
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} must be a result, got {error}; remove it or train the cell again") from error
    if missing:
        raise ValueError(f"{path} must have {', '.join(sorted(missing))}; remove it or train the cell again")
    return recipe, result


def _order(recipe: Recipe) -> tuple[Any, ...]:
    return (
        recipe.dataset,
        recipe.imbalance or 0.0,
        recipe.depth,
        recipe.image_size,
        -recipe.epochs,
        *_loss_order(recipe),
    )


def _loss_order(recipe: Recipe) -> tuple[Any, ...]:
    losses = ("softmax", "sigmoid", "focal")
    return losses.index(recipe.loss), recipe.gamma or 0.0, recipe.drw_epoch or 0, recipe.beta, recipe.precision


def differences(recipe: Recipe) -> list[str]:
    """Return which knobs are not the paper's."""
    paper = {**defaults(recipe.dataset, recipe.loss, None, None), "precision": "float32", "drw_epoch": None}
    return [name for name, value in paper.items() if name not in FREE and getattr(recipe, name) != value]


def is_paper_recipe(recipe: Recipe) -> bool:
    """Return whether the recipe is the paper's; the precision may be lower."""
    return set(differences(recipe)) <= {"precision"}


def find(groups: Iterable[Group], **wanted: Any) -> Group | None:
    """Return the group of the paper's recipe with these knobs that has the most seeds, if there is one."""
    found = [
        group
        for group in groups
        if is_paper_recipe(group.recipe) and all(getattr(group.recipe, name) == value for name, value in wanted.items())
    ]
    return max(found, key=lambda group: len(group.results), default=None)
