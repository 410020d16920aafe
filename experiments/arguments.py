"""Readers of numbers for argparse, which say what a number must be."""

import argparse
import math
from collections.abc import Callable


def number(kind: Callable[[str], float], low: float, high: float = math.inf) -> Callable[[str], float]:
    """Return a reader of numbers from low to high."""

    def read(text: str) -> float:
        what = "a whole number" if kind is int else "a finite number"
        span = f"at least {low:g}" if high == math.inf else f"from {low:g} to {high:g}"
        try:
            value = kind(text)
        except ValueError:
            value = math.nan
        if not (low <= value <= high and math.isfinite(value)):
            raise argparse.ArgumentTypeError(f"must be {what} {span}, got {text!r}")
        return value

    return read
