// Elements, and numbers as text.

const FACTS = JSON.parse(document.getElementById("facts").textContent);
const SVG = "http://www.w3.org/2000/svg";

/** An element. Attributes that are null or false are left out; on... are listeners. */
function el(tag, attributes, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

/** The same in an SVG. */
function svg(tag, attributes, ...children) {
  return fill(document.createElementNS(SVG, tag), attributes, children);
}

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(
    ...children.flat(Infinity).filter((child) => child !== null && child !== undefined),
  );
  return element;
}

/** Four significant digits, with thousands apart; "–" for what is not known. */
function number(value) {
  if (value === null || value === undefined) return "–";
  if (Number.isInteger(value)) return value.toLocaleString("en");
  const size = Math.abs(value);
  if (size !== 0 && (size < 1e-3 || size >= 1e6)) return value.toExponential(2);
  return value.toLocaleString("en", { maximumSignificantDigits: size >= 1000 ? 6 : 4 });
}

function percent(value) {
  return value === null || value === undefined ? "–" : `${value.toFixed(2)} %`;
}

/** 1234567 as 1.23 M. */
function short(value) {
  for (const [size, unit] of [
    [1e9, " G"],
    [1e6, " M"],
    [1e3, " k"],
  ]) {
    if (value >= size) return (value / size).toPrecision(3) + unit;
  }
  return number(value);
}

/** A sentence that explains what is shown. */
function note(...text) {
  return el("p", { class: "small muted" }, text);
}

/** What stands in the place of a panel that a run cannot fill; code stands in `...`. */
function missing(panel) {
  const parts = panel.missing.split("`");
  return el(
    "p",
    { class: "missing" },
    parts.map((part, place) => (place % 2 ? el("code", null, part) : part)),
  );
}

/** A table: head is a list of titles, rows are lists of cells, made by `cell` or plain values. */
function table(caption, head, rows, attributes) {
  const titles = head.map((title) =>
    title instanceof Node
      ? title
      : el(
          "th",
          { scope: "col", class: title.number && "number", role: "columnheader" },
          title.text ?? title,
        ),
  );
  return el(
    "table",
    { role: "table", ...attributes },
    el("caption", { class: "unseen" }, caption),
    titles.length ? el("thead", { role: "rowgroup" }, el("tr", { role: "row" }, titles)) : null,
    el(
      "tbody",
      { role: "rowgroup" },
      rows.map((cells) =>
        el(
          "tr",
          { role: "row" },
          cells.map((value, place) =>
            value instanceof Node
              ? value
              : place
                ? el("td", { role: "cell" }, value)
                : el("th", { scope: "row", role: "rowheader" }, value),
          ),
        ),
      ),
    ),
  );
}

/** A cell with a number, at the right. */
function numeric(text, attributes) {
  return el("td", { class: "number", role: "cell", ...attributes }, text);
}

/** A region that scrolls sideways, also by keyboard. */
function scrolling(label, ...children) {
  return el("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": label }, children);
}

/** A short line in the colour and dash of something that is plotted. */
function swatch(colour, dash) {
  const line = svg("line", {
    x1: 0,
    x2: 26,
    y1: 5,
    y2: 5,
    "stroke-width": 3,
    "stroke-dasharray": dash,
  });
  line.style.stroke = colour;
  return svg("svg", { class: "swatch", viewBox: "0 0 26 10", "aria-hidden": "true" }, line);
}

function dot(colour) {
  const mark = el("span", { class: "dot", "aria-hidden": "true" });
  mark.style.background = colour;
  return mark;
}

/** Ink for a text on a colour #rrggbb: black or white, whichever has more contrast (WCAG 2). */
function textOn(colour) {
  const parts = [1, 3, 5].map((place) => parseInt(colour.slice(place, place + 2), 16) / 255);
  const linear = parts.map((part) =>
    part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4,
  );
  return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2] > 0.179 ? "#000" : "#fff";
}

function image(source, description, attributes) {
  const found = el("img", { src: source, alt: description, loading: "lazy", ...attributes });
  found.addEventListener("load", () => {
    if (found.naturalWidth < found.clientWidth) found.classList.add("pixels");
  });
  return found;
}
