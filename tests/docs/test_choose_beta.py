"""The interactive page computes what cbcore computes, under node and in a browser."""

import json
import math
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import cbcore
from docs.scripts import class_counts

ROOT = Path(__file__).parents[2]
STATIC = ROOT / "docs" / "_static"
DATA = ROOT / "tests" / "data"
CASES = [([5000, 500, 50], n) for n in (1, 1.12, 10, 1000, 1e6, math.inf)] + [([1, 7, 10**9], 1e9), ([3], 2)]


def node(expression: str, value: object = None) -> Any:
    """Return the value of a JavaScript expression of `page`, `packed` and `value`, an infinity being a null."""
    if shutil.which("node") is None:
        (pytest.fail if os.environ.get("CI") else pytest.skip)("node is not installed")
    load = f"const page = require('{STATIC}/choose-beta.js'), packed = require('{STATIC}/choose-beta-data.js'), "
    text = json.dumps(value).replace("Infinity", "null")
    script = f"{load}value = {text}; console.log(JSON.stringify({expression}))"
    return json.loads(subprocess.run(["node", "-e", script], check=True, capture_output=True, text=True).stdout)


@pytest.mark.parametrize("name", ["numbers", "weights"])
def test_effective_numbers_and_weights(name: str) -> None:
    function = {"numbers": "(n, N) => n.map((x) => page.effectiveNumber(x, N))", "weights": "page.classWeights"}[name]
    found = node(f"value.map(([n, N]) => ({function})(n, N ?? Infinity))", CASES)
    ours = {"numbers": cbcore.effective_number, "weights": cbcore.class_weights}[name]
    for (counts, prototypes), got in zip(CASES, found, strict=True):
        np.testing.assert_allclose(got, ours(counts, num_prototypes=prototypes), rtol=1e-14)


def test_long_tailed_counts() -> None:
    cases = [(n, c, i) for n in (2, 500, 5000, 99_999) for c in (1, 2, 10, 100) for i in (1, 10, 20, 50, 100, 200)]
    found = node("value.map((arguments) => page.longTailedCounts(...arguments))", cases)
    assert found == [cbcore.long_tailed_counts(*case).tolist() for case in cases]


def test_real_class_counts() -> None:
    assert (STATIC / "choose-beta-data.js").read_text() == class_counts.script(DATA)
    for name, file in class_counts.FILES.items():
        counts = sorted(map(int, (DATA / file).read_text().split()), reverse=True)
        assert node("page.unpack(packed[value])", name) == counts


def test_sliders() -> None:
    """The values of the paper are reached, and no slider makes a class empty."""
    steps = node("[...Array(121).keys()].map((step) => page.prototypesAt(step))")
    assert steps[-1] is None  # infinity
    assert steps[:-1] == sorted(set(steps[:-1]))
    texts = node("value.map((N) => page.betaText(N ?? Infinity))", [*steps[0:81:20], math.inf])
    assert texts == ["0", "0.9", "0.99", "0.999", "0.9999", "1"]
    factors = node("[...Array(61).keys()].map((step) => page.imbalanceAt(step, 5000))")
    assert {10, 20, 50, 100, 200} <= set(factors)
    smallest = node("value.map((n) => page.longTailedCounts(n, 10, page.imbalanceAt(60, n)).at(-1))", [2, 3, 49, 5000])
    assert min(smallest) >= 1


# ---------------------------------------------------------------- in the browser


class Reader:
    """Somebody who moves the controls of the page."""

    def __init__(self, browser: Any) -> None:
        self.browser = browser

    def set(self, control: str, value: object, event: str = "input") -> None:
        element = f"document.getElementById('{control}')"
        self.browser.evaluate(f"{element}.value = '{value}', {element}.dispatchEvent(new Event('{event}')), 0")

    def read(self, output: str) -> str:
        return str(self.browser.evaluate(f"document.getElementById('{output}').textContent"))

    def weights(self) -> tuple[float, float]:
        """Return the weights of the largest and the smallest class."""
        return float(self.read("cell-0-2")), float(self.read("cell-2-2"))

    def bars(self) -> str:
        return str(self.browser.evaluate("document.querySelector('#weights-chart .heavier').getAttribute('d')"))


@pytest.fixture
def reader(browser: Any, address: str) -> Reader:
    browser.show(1300, 900)
    browser.open(address + "explanation/choose-beta.html")
    return Reader(browser)


@pytest.mark.parametrize(("step", "prototypes"), [(0, 1), (20, 10), (60, 1000), (119, 891_000), (120, math.inf)])
def test_dragging_beta_shows_what_cbcore_gives(reader: Reader, step: int, prototypes: float) -> None:
    before = reader.bars()
    reader.set("beta-slider", 40)
    assert reader.bars() != before
    reader.set("beta-slider", step)
    weights = cbcore.class_weights(cbcore.long_tailed_counts(5000, 10, 100), num_prototypes=prototypes)
    assert float(reader.read("ratio-output")) == pytest.approx(weights.max() / weights.min(), rel=5e-3)
    assert reader.weights() == pytest.approx((weights[0], weights[-1]), rel=5e-3)
    code = reader.read("code-output").replace("class_weights(counts,", "cbcore.class_weights([5000, 50],")
    assert eval(code)[0] == pytest.approx(cbcore.class_weights([5000, 50], num_prototypes=prototypes)[0], rel=1e-12)


def test_arrow_keys_move_beta(reader: Reader) -> None:
    reader.browser.evaluate("document.getElementById('beta-slider').focus()")
    for kind in ("keyDown", "keyUp"):
        reader.browser.call("Input.dispatchKeyEvent", type=kind, key="ArrowRight", windowsVirtualKeyCode=39)
    weights = cbcore.class_weights(cbcore.long_tailed_counts(5000, 10, 100), num_prototypes=1120)
    assert reader.weights() == pytest.approx((weights[0], weights[-1]), rel=5e-3)
    spoken = "document.getElementById('beta-slider').getAttribute('aria-valuetext')"
    assert reader.browser.evaluate(spoken) == reader.read("beta-output") == "β = 0.999107, N = 1,120"


def test_other_data(reader: Reader) -> None:
    reader.set("imbalance-slider", 20)
    weights = cbcore.class_weights(cbcore.long_tailed_counts(5000, 10, 10), 0.999)
    assert reader.weights() == pytest.approx((weights[0], weights[-1]), rel=5e-3)
    for name, file in class_counts.FILES.items():
        reader.set("data-set", name, "change")
        counts = np.array(list(map(int, (DATA / file).read_text().split())))
        weights = cbcore.class_weights(counts, 0.999)
        assert float(reader.read("ratio-output")) == pytest.approx(weights.max() / weights.min(), rel=5e-3)
        assert float(reader.read("mean-output")) == pytest.approx((weights * counts).sum() / counts.sum(), rel=5e-3)
    reader.set("data-set", "own", "change")
    reader.set("classes-input", 20)
    weights = cbcore.class_weights(cbcore.long_tailed_counts(1300, 20, 10), 0.999)  # 1300: of ILSVRC, the last one
    assert reader.weights() == pytest.approx((weights[0], weights[-1]), rel=5e-3)


def test_every_control_and_chart_has_a_name(reader: Reader) -> None:
    nameless = "[...document.querySelectorAll('#choose-beta :is(input, select, svg)')].filter(e => !(%s)).length"
    assert reader.browser.evaluate(nameless % "e.ariaLabel || e.labels?.[0]?.textContent") == 0
    assert "20.4" in reader.read("ratio-output")
    assert reader.browser.evaluate("document.querySelectorAll('#choose-beta :is(input, select)').length") == 5


def test_charts_follow_the_theme_and_fit_a_phone(reader: Reader) -> None:
    colour = "getComputedStyle(document.querySelector('#counts-chart text')).fill"
    light = reader.browser.evaluate(colour)
    reader.browser.show(390, 844, dark=True)
    reader.browser.wait("document.getElementById('weights-chart').viewBox.baseVal.width < 390")
    assert reader.browser.evaluate(colour) != light
    assert reader.browser.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0


def test_without_javascript_the_page_says_so() -> None:
    page = (ROOT / "docs" / "explanation" / "choose-beta.md").read_text()
    assert re.search(r"<noscript>.*needs JavaScript.*</noscript>", page, re.DOTALL)
    assert re.search(r'id="choose-beta"[^>]* hidden>', page)
