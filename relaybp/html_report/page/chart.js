// Lines over iterations or layers, with a cursor, and a range that can be zoomed into.

// in pixels: the height of a chart, and what its lines leave free around them
const HEIGHT = 250;
const LEFT = 52;
const RIGHT = 12;
const TOP = 18;

/**
 * A figure. lines(): what is drawn now, a list of {name, colour, dash, points, raw, marks, test}.
 * points: [[x, y], ...]; raw: points before smoothing; marks: whether points are marked; test: the
 * name of the line of the same thing in training.
 */
class Chart {
  constructor(axis, title, lines, { format = number, log = () => false } = {}) {
    Object.assign(this, { axis, lines, format, log });
    axis.add(this);
    this.svg = svg("svg", {
      class: "plot",
      role: "slider",
      tabindex: 0,
      "aria-label": `${title} over ${axis.name}s`,
      "aria-orientation": "horizontal",
    });
    this.legend = el("ul", { class: "legend" });
    this.element = el("figure", { class: "chart" }, el("h3", null, title), this.legend, this.svg);
    listenTo(this);
    new ResizeObserver(() => this.draw()).observe(this.svg);
  }

  // ---- geometry

  get width() {
    return this.svg.clientWidth || 420;
  }

  x(value) {
    const [low, high] = this.axis.range;
    return LEFT + ((value - low) / (high - low)) * (this.width - LEFT - RIGHT);
  }

  valueAt(pixel) {
    const [low, high] = this.axis.range;
    const share = (pixel - LEFT) / (this.width - LEFT - RIGHT);
    return low + Math.min(1, Math.max(0, share)) * (high - low);
  }

  y(value) {
    const scale = this.log() ? Math.log10 : Number;
    const [low, high] = this.domain.map(scale);
    return (
      HEIGHT -
      this.axis.bottom -
      ((scale(value) - low) / (high - low)) * (HEIGHT - this.axis.bottom - TOP)
    );
  }

  /** [lowest, highest] of the values in range, with some room. */
  findDomain(lines) {
    const values = lines.flatMap((line) =>
      [line.points, line.raw ?? []].flatMap((points) => this.visible(points)),
    );
    if (!values.length) return this.log() ? [0.1, 1] : [0, 1];
    let least = values[0];
    let most = values[0];
    for (const value of values) [least, most] = [Math.min(least, value), Math.max(most, value)];
    if (this.log()) return [least / 1.2, most * 1.2];
    const room = 0.06 * (most - least) || Math.abs(most) * 0.1 || 1;
    return [least >= 0 ? Math.max(0, least - room) : least - room, most + room];
  }

  /** The values of a line within the range, and where it enters and leaves it. */
  visible(points) {
    const [low, high] = this.axis.range;
    const found = [];
    points.forEach(([x, y], place) => {
      if (!this.drawable(y)) return;
      if (x >= low && x <= high) found.push(y);
      const [before, above] = points[place - 1] ?? [x, y];
      if (!this.drawable(above)) return;
      for (const edge of [low, high]) {
        if (before < edge && edge < x)
          found.push(above + ((y - above) * (edge - before)) / (x - before));
      }
    });
    return found;
  }

  drawable(value) {
    return value !== null && (!this.log() || value > 0);
  }

  // ---- drawing

  draw() {
    const lines = (this.drawn = this.lines());
    this.domain = this.findDomain(lines);
    this.svg.setAttribute("viewBox", `0 0 ${this.width} ${HEIGHT}`);
    const clip = `clip${(Chart.count = (Chart.count ?? 0) + 1)}`;
    const area = {
      x: LEFT - 5,
      y: 0,
      width: Math.max(0, this.width - LEFT - RIGHT + 10),
      height: HEIGHT - this.axis.bottom + 3,
    };
    this.svg.replaceChildren(
      svg("clipPath", { id: clip }, svg("rect", area)),
      ...this.yTicks(),
      ...this.xTicks(),
      svg(
        "g",
        { "clip-path": `url(#${clip})` },
        lines.flatMap((line) => this.line(line)),
      ),
      (this.over = svg("g")),
    );
    this.showCursor();
  }

  yTicks() {
    const ticks = this.log() ? logTicks(...this.domain) : niceTicks(...this.domain, 5);
    return ticks.map((value) =>
      svg(
        "g",
        null,
        svg("line", {
          class: "grid-line",
          x1: LEFT,
          x2: this.width - RIGHT,
          y1: this.y(value),
          y2: this.y(value),
        }),
        svg("text", { x: LEFT - 7, y: this.y(value) + 4, "text-anchor": "end" }, tickText(value)),
      ),
    );
  }

  xTicks() {
    if (this.axis.places) return this.placeTicks();
    const ticks = niceTicks(...this.axis.range, Math.max(2, Math.floor(this.width / 95)));
    return ticks
      .filter(Number.isInteger)
      .map((value) =>
        svg("text", { x: this.x(value), y: HEIGHT - 6, "text-anchor": "middle" }, tickText(value)),
      );
  }

  /** Names of layers, turned; of many, some. */
  placeTicks() {
    const [low, high] = this.axis.range;
    const names = this.axis.places();
    const below = HEIGHT - this.axis.bottom + 10;
    const every = Math.ceil(((high - low) * 15) / (this.width - LEFT - RIGHT)) || 1;
    return names
      .map((name, place) => [name, place])
      .filter(([, place]) => place >= low && place <= high && place % every === 0)
      .map(([name, place]) =>
        svg(
          "text",
          {
            "text-anchor": "end",
            transform: `translate(${this.x(place) + 4} ${below}) rotate(-60)`,
          },
          name.length > 16 ? `${name.slice(0, 15)}…` : name,
        ),
      );
  }

  line({ colour, dash, points, raw, marks }) {
    const drawn = [];
    const add = (kind, attributes) => {
      const shape = svg(kind, attributes);
      shape.style[kind === "circle" ? "fill" : "stroke"] = colour;
      drawn.push(shape);
    };
    if (raw) add("path", { d: this.path(raw), fill: "none", "stroke-width": 1, opacity: 0.28 });
    add("path", {
      d: this.path(points),
      fill: "none",
      "stroke-width": 2,
      "stroke-linejoin": "round",
      "stroke-dasharray": dash,
    });
    if (marks || points.length === 1) {
      points
        .filter(([, y]) => this.drawable(y))
        .forEach(([x, y]) => {
          add("circle", { cx: this.x(x), cy: this.y(y), r: 4 });
          drawn.at(-1).style.stroke = "var(--surface)";
        });
    }
    return drawn;
  }

  path(points) {
    let pen = "M";
    return points
      .map(([x, y]) => {
        if (!this.drawable(y)) {
          pen = "M";
          return "";
        }
        const step = `${pen}${this.x(x).toFixed(1)} ${this.y(y).toFixed(1)}`;
        pen = "L";
        return step;
      })
      .join("");
  }

  // ---- the cursor

  /** The point of a line that is nearest to the cursor; without a cursor its last. */
  nearest(line) {
    const points = line.points.filter(([, y]) => y !== null);
    if (this.axis.cursor === null || !points.length) return points.at(-1);
    const distance = ([x]) => Math.abs(x - this.axis.cursor);
    return points.reduce((best, point) => (distance(point) < distance(best) ? point : best));
  }

  showCursor() {
    if (!this.drawn) return;
    const { cursor } = this.axis;
    const found = this.drawn.map((line) => [line, this.nearest(line)]);
    this.legend.replaceChildren(...this.legendItems(found));
    this.over.replaceChildren();
    this.describe(found);
    if (cursor === null) return;
    const x = this.x(cursor);
    const onRight = x > this.width / 2;
    this.over.append(
      svg("line", { class: "cursor", x1: x, x2: x, y1: TOP - 4, y2: HEIGHT - this.axis.bottom }),
      svg(
        "text",
        { class: "at", x: x + (onRight ? -5 : 5), y: 11, "text-anchor": onRight ? "end" : "start" },
        `${this.axis.name} ${this.axis.label(cursor)}`,
      ),
    );
    for (const [line, point] of found) {
      if (!point || !this.drawable(point[1])) continue;
      const mark = svg("circle", {
        cx: this.x(point[0]),
        cy: this.y(point[1]),
        r: 4.5,
        "stroke-width": 2,
      });
      mark.style.fill = "var(--surface)";
      mark.style.stroke = line.colour;
      this.over.append(mark);
    }
  }

  /** An item for each line; a test's value stands behind that of the same thing in training. */
  legendItems(found) {
    const text = (point) => (point ? this.format(point[1]) : "–");
    return found
      .filter(([line]) => !line.test)
      .map(([line, point]) => {
        const test = found.find(([other]) => other.test === line.name);
        return el(
          "li",
          null,
          swatch(line.colour, line.dash),
          line.name,
          el(
            "span",
            { class: "value" },
            text(point),
            test ? el("span", { class: "muted" }, ` test ${text(test[1])}`) : null,
          ),
        );
      });
  }

  /** For screen readers: the chart is a slider whose value is what the lines are at the cursor. */
  describe(found) {
    const [low, high] = this.axis.range;
    const cursor = this.axis.cursor ?? high;
    const values = found
      .filter(([, point]) => point)
      .map(([line, point]) => `${line.name}${line.test ? " test" : ""} ${this.format(point[1])}`);
    this.svg.setAttribute("aria-valuemin", low);
    this.svg.setAttribute("aria-valuemax", high);
    this.svg.setAttribute("aria-valuenow", cursor);
    this.svg.setAttribute(
      "aria-valuetext",
      `${this.axis.name} ${this.axis.label(cursor)}: ${values.join(", ") || "nothing"}`,
    );
  }
}
