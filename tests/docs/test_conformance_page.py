"""The page of tolerances shows the table that the tests run."""

from tests.support import conformance_page


def test_the_page_shows_the_table() -> None:
    assert conformance_page.PAGE.read_text() == conformance_page.page()
