"""Inputs that the tests of the mathematics share."""

from typing import Any

import numpy as np
from hypothesis import strategies as st

GAMMAS = [0.0, 0.3, 0.5, 1.0, 2.0, 5.0]

class_counts = st.lists(st.integers(1, 10**6), min_size=2, max_size=12).map(np.array)
betas = st.floats(0, 1).map(lambda x: 1 - 10 ** (-7 * x))


def normalised(x: Any) -> np.ndarray:
    return np.asarray(x) / np.sum(x)
