// What a reader does with a report, and what the page then shows: runs within the page itself, for
// tests/test_html_report_browser.py, which reads the element #seen.

document.querySelectorAll("img").forEach((image) => (image.loading = "eager"));

function use() {
  const seen = { problems };
  const all = (selector, within = document) => [...within.querySelectorAll(selector)];
  const texts = (selector, within) =>
    all(selector, within).map((element) => element.textContent.trim());
  const key = (element, name) =>
    element.dispatchEvent(new KeyboardEvent("keydown", { key: name, bubbles: true }));
  const legend = (chart) => texts(".legend li", chart);
  SVGElement.prototype.setPointerCapture = () => {}; // no real pointer is down

  const { lines } = iterations.charts[0];
  seen.asked = 0;
  iterations.charts[0].lines = () => {
    seen.asked++;
    return lines();
  };
  iterations.redraw(); // at the width that the page has now
  iterations.charts[0].lines = lines;
  seen.sections = texts("h2");
  seen.results = texts("#results .results tbody tr:first-child td");
  seen.missing = texts(".missing");
  seen.images = all("img").map((image) => image.naturalWidth);
  seen.undescribed = all("img").filter((image) => !image.alt).length;

  const [error] = all("#curves .chart");
  const plot = error.querySelector("svg.plot");
  plot.focus();
  key(plot, "Home");
  seen.first = plot.getAttribute("aria-valuetext");
  key(plot, "ArrowRight");
  seen.second = plot.getAttribute("aria-valuetext");
  seen.legend = legend(error);
  const wholeRange = iterations.range;
  key(plot, "+");
  seen.zoomedByKey = iterations.range[1] - iterations.range[0] < wholeRange[1] - wholeRange[0];
  key(plot, "Escape");
  seen.wholeAgain = String(iterations.range) === String(wholeRange);

  const tests = RUNS[1].curves.test.accuracy_top1;
  const [, middle] = tests;
  tests[1] = [middle[0], null]; // as a NaN comes into the page
  iterations.redraw();
  const shapes = (name) => all(`g[clip-path] ${name}`, plot);
  seen.strokes = shapes("path").map((path) => path.getAttribute("d").replace(/[^ML]/g, ""));
  seen.marks = shapes("circle").length;
  tests[1] = middle;
  iterations.redraw();

  const box = plot.getBoundingClientRect();
  const point = (kind, share) =>
    plot.dispatchEvent(
      new PointerEvent(kind, {
        clientX: box.left + share * box.width,
        clientY: box.top + 50,
        bubbles: true,
        pointerId: 1,
        pointerType: "mouse",
      }),
    );
  point("pointermove", 0.9);
  seen.hovered = plot.querySelector(".at").textContent;
  point("pointerdown", 0.5);
  point("pointermove", 0.8);
  point("pointerup", 0.8);
  seen.dragged = iterations.range;
  plot.dispatchEvent(new MouseEvent("dblclick", { bubbles: true }));

  seen.barsOfBoth = texts("#classes .bars li:first-child .value").length;
  all("#runs input")[0].click();
  seen.legendOfOne = legend(error);
  seen.barsOfOne = texts("#classes .bars li:first-child .value").length;
  all("#runs input")[0].click();

  seen.matrix = all("#confusion .matrix tbody tr").map((row) => texts("td", row));
  all("#confusion .pick input")[1].click();
  seen.otherMatrix = all("#confusion .matrix tbody tr").map((row) => texts("td", row));
  seen.pickedElsewhere = all("#images .pick input").map((button) => button.checked);

  const [unit] = all("#network .unit");
  unit.focus();
  seen.unit = texts("#network .detail h3")[0];
  seen.layers = texts("#network .detail tbody th");
  key(unit, "ArrowRight");
  seen.nextUnit = texts("#network .detail h3")[0];
  seen.tabStops = all("#network .net button").filter((button) => button.tabIndex === 0).length;

  const theme = document.querySelector("#options select");
  const background = () => getComputedStyle(document.body).backgroundColor;
  seen.backgrounds = ["light", "dark"].map((name) => {
    theme.value = name;
    theme.dispatchEvent(new Event("change"));
    return background();
  });
  return seen;
}

// The browser prints the page when it is loaded, after this listener.
addEventListener("load", () => {
  let seen;
  try {
    seen = use();
  } catch (error) {
    seen = { problems: [...problems, String(error)] };
  }
  const text = document.createElement("pre");
  text.id = "seen";
  text.textContent = JSON.stringify(seen);
  document.body.append(text);
});
