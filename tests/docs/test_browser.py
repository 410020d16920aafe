"""What a reader sees, in headless Chromium: equations, search, no error, nothing from elsewhere, no page too wide."""

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
