// The page docs/explanation/choose-beta.md: counts, effective numbers and weights as the reader drags beta.
"use strict";
(() => {
  // ------------------------------------------------------------------ the numbers, as cbcore computes them

  /** E_n = N (1 - (1 - 1/N)^n), without subtracting from 1 (src/cbcore/_weights.py). */
  function effectiveNumber(n, prototypes) {
    return prototypes === Infinity ? n : -prototypes * Math.expm1(n * Math.log1p(-1 / prototypes));
  }

  /** Weights proportional to 1 / E_n that sum to the number of classes. */
  function classWeights(counts, prototypes) {
    const raw = counts.map((n) => 1 / effectiveNumber(n, prototypes));
    const scale = counts.length / sum(raw);
    return raw.map((weight) => weight * scale);
  }

  /** The long-tailed profile of the paper (src/cbcore/_counts.py). */
  function longTailedCounts(largest, classes, imbalance) {
    const steps = Math.max(classes - 1, 1);
    return Array.from({ length: classes }, (_, i) => Math.trunc(largest * imbalance ** (-i / steps)));
  }

  /** The counts of "1300*895 1299 1293*2 ...". */
  function unpack(text) {
    return text.split(" ").flatMap((part) => {
      const [count, classes = 1] = part.split("*").map(Number);
      return Array(classes).fill(count);
    });
  }

  function sum(values) {
    return values.reduce((total, value) => total + value, 0);
  }

  // ------------------------------------------------------------------ sliders and texts

  const LAST = 120; // of the slider of beta: N = infinity

  /** Twenty steps a decade, rounded so that what the page shows can be typed. */
  function prototypesAt(step) {
    return step >= LAST ? Infinity : Number((10 ** (step / 20)).toPrecision(3));
  }

  /** Likewise; 10, 20, 50, 100 and 200, the factors of the paper, are among them. No class becomes empty. */
  function imbalanceAt(step, largest) {
    return Math.min(Number((10 ** (step / 20)).toPrecision(2)), largest / 2);
  }

  /** beta = 1 - 1/N with two digits more than it has nines. */
  function betaText(prototypes) {
    if (prototypes === Infinity) return "1";
    const digits = Math.ceil(Math.log10(prototypes)) + 2;
    return String(Number((1 - 1 / prototypes).toFixed(digits)));
  }

  function threeDigits(x) {
    if (x === Infinity) return "∞";
    return x >= 100 ? Math.round(x).toLocaleString("en") : String(Number(x.toPrecision(3)));
  }

  function verdict(ratio, imbalance) {
    if (imbalance < 1.01) return "The classes are of one size: no β changes anything.";
    if (ratio < 1.1) return "All classes weigh nearly the same: N is small beside the smallest class.";
    if (ratio > 0.9 * imbalance) return "Nearly inverse frequency: N is large beside the largest class.";
    return "Between: classes smaller than N weigh like 1/n, larger ones weigh alike.";
  }

  // ------------------------------------------------------------------ drawing

  const MARGIN = { left: 46, right: 8, top: 10, bottom: 30 };
  const HEIGHT = 210;

  /** Powers of ten that enclose the values. */
  function decades(values) {
    const powers = [Math.min, Math.max].map((pick) => values.reduce((a, b) => pick(a, b)));
    return [Math.floor(Math.log10(powers[0]) + 1e-9), Math.max(Math.ceil(Math.log10(powers[1]) - 1e-9), 1)];
  }

  /** Neighbours of the same height become one bar, unless there is room for each. */
  function runs(values) {
    const result = [];
    values.forEach((value, i) => {
      const last = result.at(-1);
      if (values.length > 40 && last && last.value === value) last.end = i + 1;
      else result.push({ value, start: i, end: i + 1 });
    });
    return result;
  }

  function scales(svg, classes, [low, high]) {
    const width = Math.max(svg.clientWidth, 240);
    const inner = { width: width - MARGIN.left - MARGIN.right, height: HEIGHT - MARGIN.top - MARGIN.bottom };
    return {
      width,
      gap: classes <= 40 ? 0.1 : 0,
      x: (i) => MARGIN.left + (i / classes) * inner.width,
      y: (value) => MARGIN.top + ((high - Math.log10(value)) / (high - low)) * inner.height,
    };
  }

  function bars(values, base, { x, y, gap }) {
    const box = ({ value, start, end }) => `M${x(start + gap)} ${y(base)}V${y(value)}H${x(end - gap)}V${y(base)}Z`;
    return runs(values).map(box).join("");
  }

  function steps(values, { x, y }) {
    return runs(values).map(({ value, start, end }, i) => `${i ? "L" : "M"}${x(start)} ${y(value)}H${x(end)}`).join("");
  }

  function axes([low, high], classes, { x, y, width }) {
    const lines = [];
    for (let power = low; power <= high; power++) {
      const at = y(10 ** power);
      lines.push(`<line class="grid" x1="${MARGIN.left}" x2="${width - MARGIN.right}" y1="${at}" y2="${at}"/>`);
      const text = power < -4 || power > 6 ? `1e${power}` : (10 ** power).toLocaleString("en", { maximumFractionDigits: 4 });
      lines.push(`<text x="${MARGIN.left - 6}" y="${at + 4}" text-anchor="end">${text}</text>`);
    }
    const bottom = HEIGHT - 10;
    lines.push(`<text x="${x(0)}" y="${bottom}">largest class</text>`);
    lines.push(`<text x="${x(classes)}" y="${bottom}" text-anchor="end">smallest of ${classes.toLocaleString("en")}</text>`);
    return lines.join("");
  }

  function draw(svg, label, classes, range, paths) {
    const scale = scales(svg, classes, range);
    svg.setAttribute("viewBox", `0 0 ${scale.width} ${HEIGHT}`);
    svg.setAttribute("aria-label", label);
    svg.innerHTML = axes(range, classes, scale) + paths(scale).map(([name, d]) => `<path class="${name}" d="${d}"/>`).join("");
  }

  function drawCounts(svg, counts, numbers) {
    const range = decades([1, ...counts]);
    const label = `Samples and effective numbers of ${counts.length} classes, logarithmic: samples from ` +
      `${counts[0]} to ${counts.at(-1)}, effective numbers from ${threeDigits(numbers[0])} to ${threeDigits(numbers.at(-1))}`;
    draw(svg, label, counts.length, range, (scale) => [
      ["counts", bars(counts, 10 ** range[0], scale)],
      ["numbers", steps(numbers, scale)],
    ]);
  }

  function drawWeights(svg, counts, weights) {
    const range = decades([1, ...classWeights(counts, Infinity)]); // the widest: the axis stays while beta moves
    const label = `Weights of ${counts.length} classes, logarithmic: from ${threeDigits(weights[0])} for the largest ` +
      `class to ${threeDigits(weights.at(-1))} for the smallest`;
    draw(svg, label, counts.length, range, (scale) => [
      ["lighter", bars(weights.map((w) => Math.min(w, 1)), 1, scale)],
      ["heavier", bars(weights.map((w) => Math.max(w, 1)), 1, scale)],
      ["one", `M${scale.x(0)} ${scale.y(1)}H${scale.x(counts.length)}`],
    ]);
  }

  // ------------------------------------------------------------------ the page

  const PRESETS = { "cifar-10": [5000, 10], "cifar-100": [500, 100] };

  function start() {
    const find = (id) => document.getElementById(id);
    const [page, dataSet, beta, imbalance] = ["choose-beta", "data-set", "beta-slider", "imbalance-slider"].map(find);
    const [classes, largest] = ["classes-input", "largest-input"].map(find);
    const show = (id, text) => { find(id).textContent = text; };

    function counts() {
      if (CLASS_COUNTS[dataSet.value]) return unpack(CLASS_COUNTS[dataSet.value]);
      const [most, many] = [largest, classes].map((input) => clamp(input));
      return longTailedCounts(most, many, imbalanceAt(Number(imbalance.value), most));
    }

    function update() {
      const n = counts();
      const prototypes = prototypesAt(Number(beta.value));
      const numbers = n.map((count) => effectiveNumber(count, prototypes));
      const weights = classWeights(n, prototypes);
      const [ratio, factor] = [weights.at(-1) / weights[0], n[0] / n.at(-1)];
      const words = `β = ${betaText(prototypes)}, N = ${threeDigits(prototypes)}`;
      beta.setAttribute("aria-valuetext", words);
      imbalance.setAttribute("aria-valuetext", threeDigits(factor));
      show("beta-output", words);
      show("imbalance-output", threeDigits(factor));
      show("ratio-output", threeDigits(ratio));
      show("mean-output", threeDigits(sum(weights.map((w, i) => w * n[i])) / sum(n)));
      show("verdict-output", verdict(ratio, factor));
      show("code-output", prototypes === Infinity ? "class_weights(counts, beta=1)"
        : `class_weights(counts, num_prototypes=${prototypes})`);
      [0, Math.floor((n.length - 1) / 2), n.length - 1].forEach((at, row) => {
        [n, numbers, weights].forEach((values, column) => show(`cell-${row}-${column}`, threeDigits(values[at])));
      });
      drawCounts(find("counts-chart"), n, numbers);
      drawWeights(find("weights-chart"), n, weights);
    }

    function choose() {
      const real = dataSet.value in CLASS_COUNTS;
      [imbalance, classes, largest].forEach((input) => { input.disabled = real; });
      const n = real ? counts() : [];
      [largest.value, classes.value] = real ? [n[0], n.length] : PRESETS[dataSet.value] ?? [largest.value, classes.value];
      update();
    }

    page.hidden = false;
    dataSet.addEventListener("change", choose);
    [beta, imbalance].forEach((input) => input.addEventListener("input", update));
    [classes, largest].forEach((input) => input.addEventListener("input", () => { dataSet.value = "own"; update(); }));
    new ResizeObserver(update).observe(page);
    choose();
  }

  function clamp(input) {
    return Math.min(Math.max(Math.trunc(Number(input.value)) || 0, Number(input.min)), Number(input.max));
  }

  if (typeof module === "object") {
    module.exports = { effectiveNumber, classWeights, longTailedCounts, unpack, prototypesAt, imbalanceAt, betaText };
  } else {
    start();
  }
})();
