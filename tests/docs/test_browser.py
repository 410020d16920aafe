"""What a reader sees, in headless Chromium: equations, search, no error, nothing from elsewhere, no page too wide."""

import json
from pathlib import Path

import pytest

from tests.docs.browser import Browser

MAIN = [
    "index.html",
    "tutorials/torch.html",
    "tutorials/jax.html",
    "tutorials/keras.html",
    "how-to/faq.html",
    "how-to/migrate-ports.html",
    "explanation/effective-number.html",
    "explanation/choose-beta.html",
    "reference/api-torch.html",
    "reference/agreement.html",
    "reference/errors.html",
    "reference/benchmarks.html",
    "search.html?q=effective+number",
]
SIZES = {"desk": (1300, 900), "phone": (390, 844)}

TEX = r"[...document.querySelectorAll('.math')].filter(e => /\\[(\[]|\\[a-z]+/.test(e.innerText)).map(e => e.innerText)"
UNSET = "[...document.querySelectorAll('.math')].filter(e => !e.querySelector('mjx-container > svg')).length"
# Elements that stick out to the right, unless something around them inside the article scrolls.
WIDE = """
[...document.querySelectorAll('article *')].filter(e => {
    if (e.getBoundingClientRect().right <= document.documentElement.clientWidth + 1) return false;
    for (let p = e.parentElement; p.tagName != 'ARTICLE'; p = p.parentElement)
        if (['auto', 'scroll', 'hidden'].includes(getComputedStyle(p).overflowX)) return false;
    return !e.closest('mjx-assistive-mml, .headerlink');
}).map(e => e.outerHTML.slice(0, 80))
"""
OVERFLOW = (
    "Math.max(...['html', '.content'].map(s => document.querySelector(s)).map(e => e.scrollWidth - e.clientWidth))"
)
RESULTS = "[...document.querySelectorAll('#search-results li a')].map(e => e.innerText)"


SUMMARIES = "[...document.querySelectorAll('#search-results li')].map(e => e.innerText)"
# All results are there, with their summaries; names of the API have a description instead.
COMPLETE = """
/Search finished/.test(document.querySelector('#search-results .search-summary')?.innerText) &&
[...document.querySelectorAll('#search-results li')].every(e => e.querySelector('span, p.context'))
"""


def outside(requests: list[str], address: str) -> list[str]:
    """Return the requests that leave the server; a page may hold its own data."""
    return [url for url in requests if not url.startswith((address, "data:", "about:"))]


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("page", MAIN)
def test_page(browser: Browser, address: str, page: str, size: str, dark: bool) -> None:
    browser.show(*SIZES[size], dark=dark)
    browser.open(address + page)
    assert "cbcore" in browser.evaluate("document.title")
    assert len(browser.requests()) > 3
    assert not outside(browser.requests(), address)
    assert not browser.complaints()
    assert browser.evaluate(UNSET) == 0
    assert browser.evaluate(TEX) == []
    assert browser.evaluate(OVERFLOW) <= 0
    assert browser.evaluate(WIDE) == []


def pages_with_equations(site: Path) -> list[str]:
    """Return every page that shows mathematics."""
    return sorted(str(p.relative_to(site)) for p in site.rglob("*.html") if 'class="math ' in p.read_text())


def test_equations_are_pictures(browser: Browser, address: str, site: Path) -> None:
    pages = pages_with_equations(site)
    assert "index.html" in pages
    browser.show(*SIZES["phone"])
    for page in pages:
        browser.open(address + page)
        assert browser.evaluate("document.querySelectorAll('mjx-container > svg').length") > 0, page
        assert browser.evaluate("document.querySelectorAll('[data-mjx-error]').length") == 0, page
        assert (browser.evaluate(UNSET), browser.evaluate(TEX)) == (0, []), page
        assert browser.evaluate(OVERFLOW) <= 0, page
        assert not outside(browser.requests(), address), page


def test_search_finds_the_effective_number(browser: Browser, address: str) -> None:
    browser.show(*SIZES["phone"])
    browser.open(address + "search.html?q=effective+number")
    for title in ("cbcore.effective_number", "Glossary", "Choose β"):
        browser.wait(f"{RESULTS}.includes('{title}')")
    browser.open(address + "search.html?q=xylophone")
    browser.wait("/did not match/.test(document.body.innerText)")


@pytest.mark.parametrize("words", ["effective number", "minimiser", "harmonic mean", "proof", "batch"])
def test_search_results_show_no_tex(browser: Browser, address: str, words: str) -> None:
    browser.show(*SIZES["desk"])
    browser.open(f"{address}search.html?q={words.replace(' ', '+')}")
    browser.wait(COMPLETE)
    shown = browser.evaluate(SUMMARIES)
    assert shown
    assert not [text for text in shown if "\\" in text or "$" in text]
    assert not browser.complaints()


@pytest.mark.parametrize(
    ("formula", "text"),
    [
        (r"\(n\)", "n"),
        (r"\(\beta = 1 - 1/N\)", "β = 1 - 1/N"),
        (r"\(E_n \le n\)", "E_n ≤ n"),
        (r"\(x^{n}\)", "…"),
        (r"\[\frac1n \sum_i w_i\]", "…"),
    ],
)
def test_formulas_in_search_results(browser: Browser, address: str, formula: str, text: str) -> None:
    browser.open(f"{address}search.html")
    page = f"<main role=main><p>Let <span class=math>{formula}</span> be</p></main>"
    assert browser.evaluate(f"Search.htmlToText({json.dumps(page)})") == f"Let {text} be"


class TestTheTestsCanFail:
    """Each assertion above, seen failing on a page that breaks its rule."""

    @pytest.fixture(autouse=True)
    def page(self, browser: Browser, address: str) -> None:
        browser.show(*SIZES["phone"])
        browser.open(address + "index.html")

    def test_a_request_to_elsewhere(self, browser: Browser, address: str) -> None:
        browser.evaluate("fetch('http://127.0.0.2:9/elsewhere').catch(() => null)")
        assert outside(browser.requests(), address) == ["http://127.0.0.2:9/elsewhere"]

    @pytest.mark.parametrize(
        "script",
        ["console.error('broken')", "setTimeout(() => missing()), new Promise(done => setTimeout(done, 50))"],
    )
    def test_a_complaint(self, browser: Browser, script: str) -> None:
        browser.evaluate(script)
        assert len(browser.complaints()) == 1

    def test_an_equation_that_is_not_set(self, browser: Browser) -> None:
        browser.evaluate(r"document.querySelector('article').innerHTML = '<span class=math>\\(\\frac12\\)</span>'")
        assert browser.evaluate(UNSET) == 1
        assert browser.evaluate(TEX) == [r"\(\frac12\)"]

    def test_an_element_that_is_too_wide(self, browser: Browser) -> None:
        browser.evaluate("document.querySelector('article p').style.width = '900px'")
        assert browser.evaluate(OVERFLOW) > 0
        assert len(browser.evaluate(WIDE)) > 0
