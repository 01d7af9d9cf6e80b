// The page: its head, and the sections in the order in which a reader asks.

/** A section whose body is drawn again when one of `keys` of the state changes. */
function section(id, title, lead, { keys = [], controls = () => null, draw }) {
  const body = el("div");
  const redraw = () => body.replaceChildren(...[draw(redraw)].flat(Infinity).filter(Boolean));
  const found = el(
    "section",
    { id, "aria-labelledby": `${id}-title` },
    el(
      "div",
      { class: "section-head" },
      el(
        "div",
        null,
        el("h2", { id: `${id}-title` }, title),
        el("p", { class: "muted small" }, lead),
      ),
      el("div", { class: "controls" }, controls(redraw)),
    ),
    body,
  );
  document.getElementById("main").append(found);
  document.getElementById("contents").append(el("a", { href: `#${id}` }, title));
  follow(keys, redraw);
}

const ONE_RUN = { keys: ["run"], controls: runPicker };
const models = [...new Set(RUNS.map((run) => run.overview.model))].join(", ");
document.title = `${models}: ${RUNS.map((run) => run.name).join(", ")}`;
document.getElementById("title").textContent = models;
document.getElementById("made").textContent =
  `${RUNS.length} run${RUNS.length > 1 ? "s" : ""}, as of ${FACTS.made}`;
document.getElementById("runs").append(...runSwitches());
if (RUNS.length < 2) document.getElementById("runs").hidden = true;

document.getElementById("options").append(
  ...(FACTS.reload_s
    ? [
        el(
          "label",
          null,
          el("input", {
            type: "checkbox",
            checked: !state.still,
            onchange: (event) => choose({ still: !event.target.checked }),
          }),
          `Look again every ${FACTS.reload_s} s`,
        ),
      ]
    : []),
  el(
    "label",
    null,
    "Theme ",
    el(
      "select",
      { onchange: (event) => choose({ theme: event.target.value }) },
      [
        ["light dark", "as the system"],
        ["light", "light"],
        ["dark", "dark"],
      ].map(([value, text]) => el("option", { value, selected: state.theme === value }, text)),
    ),
  ),
);
follow(["theme"], () => (document.documentElement.style.colorScheme = state.theme));
if (FACTS.reload_s) setInterval(() => state.still || location.reload(), 1000 * FACTS.reload_s);

section("results", "Results", "Errors of the last test; those of several runs beside each other.", {
  keys: ["hidden"],
  draw: drawOverview,
});
section(
  "curves",
  "Curves",
  "Move over a chart to read it; drag to zoom, double-click for the whole range. " +
    "With the keyboard: arrows, + and −, Escape.",
  {
    controls: curveControls,
    draw: () => (RUNS.some((run) => !run.curves.missing) ? curveCharts() : missing(RUNS[0].curves)),
  },
);
section(
  "differences",
  "Settings that differ",
  "What the identities of the runs do not have in common.",
  { draw: drawDifferences },
);
section(
  "network",
  "Network",
  "Which loss trains which layers. Point at a part to see its layers, or use Tab and arrow keys.",
  { ...ONE_RUN, draw: drawNetwork },
);
section("gradients", "Gradients", "How strongly each loss pulls at each layer.", {
  ...ONE_RUN,
  draw: drawGradients,
});
section("classes", "Classes", "The error of each class, in the runs’ colours.", {
  keys: ["hidden"],
  controls: classControls,
  draw: drawClasses,
});
section("confusion", "Confusion", "What is taken for what.", { ...ONE_RUN, draw: drawConfusion });
section(
  "images",
  "Images",
  "Those of which the net is most sure, of as many classes as there are.",
  { ...ONE_RUN, draw: drawExamples },
);
section("inside", "Inside", "What the net has learned to look at.", {
  ...ONE_RUN,
  draw: drawInside,
});
section("files", "Configuration", "What the run is, in Caffe’s own files.", {
  ...ONE_RUN,
  draw: drawFiles,
});
