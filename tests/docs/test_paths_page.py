"""The page of PyTorch's paths shows what they answer."""

import pytest

pytest.importorskip("triton")

from cbcore_torch._paths import PATHS
from tests.support import paths_page


def test_the_page_shows_what_the_paths_do() -> None:
    text = paths_page.PAGE.read_text()
    assert text.count(paths_page.tables()) == 1, "python -m tests.support.paths_page"
    assert paths_page.page(text) == text


def test_every_path_takes_a_call_of_the_table() -> None:
    asked = {paths_page.ask(row, place).path for row in paths_page.ROWS for place in paths_page.PLACES.values()}
    assert asked == {path.NAME for path in PATHS}
