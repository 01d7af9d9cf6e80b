// The x axis of charts: its range, its cursor, and round numbers for ticks.

/** The x axis that several charts share. label: the text of a place on it. */
class Axis {
  constructor(name, { label = number, bottom = 24, places = null, key = null } = {}) {
    Object.assign(this, { name, label, bottom, places, key, charts: [], cursor: null });
    this.found = null;
    this.zoom = key ? state[key] : null;
  }

  add(chart) {
    this.charts.push(chart);
    this.found = null;
  }

  /** [first, last] of all lines; looked for once for each redrawing, since every point asks. */
  get whole() {
    return (this.found ??= this.findWhole());
  }

  findWhole() {
    let low = Infinity;
    let high = -Infinity;
    for (const { points } of this.charts.flatMap((chart) => chart.lines()))
      for (const [x] of points) [low, high] = [Math.min(low, x), Math.max(high, x)];
    if (low > high) return [0, 1];
    return [low, high > low ? high : low + 1];
  }

  get range() {
    return this.zoom ?? this.whole;
  }

  redraw() {
    this.found = null;
    this.charts.forEach((chart) => chart.draw());
  }

  moveTo(cursor) {
    this.cursor = cursor;
    this.charts.forEach((chart) => chart.showCursor());
  }

  zoomTo(range) {
    this.zoom = range;
    if (this.key) choose({ [this.key]: range });
    this.redraw();
  }

  /** Show a part (factor < 1) or more of the range, around the cursor. */
  zoomBy(factor) {
    const [low, high] = this.range;
    const [first, last] = this.whole;
    const middle = this.cursor ?? (low + high) / 2;
    const range = [
      Math.max(first, middle - (middle - low) * factor),
      Math.min(last, middle + (high - middle) * factor),
    ];
    if (range[0] <= first && range[1] >= last) this.zoomTo(null);
    else if (range[1] > range[0]) this.zoomTo(range);
  }
}

/** About `count` round numbers between two. */
function niceTicks(low, high, count) {
  const raw = (high - low) / count;
  const size = 10 ** Math.floor(Math.log10(raw));
  const step = size * [1, 2, 2.5, 5, 10].find((factor) => factor * size >= raw);
  const ticks = [];
  for (let k = Math.ceil(low / step - 1e-9); k * step <= high + 1e-9 * step; k++)
    ticks.push(+(k * step).toPrecision(12));
  return ticks;
}

/** Powers of ten between two numbers; with 2 and 5 times them where there are few. */
function logTicks(low, high) {
  const few = Math.log10(high / low) < 2.5;
  const ticks = [];
  for (let power = Math.floor(Math.log10(low)); 10 ** power <= high; power++) {
    for (const factor of few ? [1, 2, 5] : [1]) ticks.push(+(factor * 10 ** power).toPrecision(3));
  }
  return ticks.filter((tick) => tick >= low && tick <= high);
}

function tickText(value) {
  const size = Math.abs(value);
  if (size >= 1e4) return short(value).replace(/\.?0+(?= |$)/, "");
  return size !== 0 && size < 1e-3 ? value.toExponential(0) : String(+value.toPrecision(6));
}

/** Buttons that zoom; charts also zoom to what is dragged over. */
function zoomButtons(axis) {
  return [
    el(
      "button",
      { type: "button", onclick: () => axis.zoomBy(0.5) },
      "+",
      el("span", { class: "unseen" }, " zoom in"),
    ),
    el(
      "button",
      { type: "button", onclick: () => axis.zoomBy(2) },
      "−",
      el("span", { class: "unseen" }, " zoom out"),
    ),
    el("button", { type: "button", onclick: () => axis.zoomTo(null) }, "Whole range"),
  ];
}
