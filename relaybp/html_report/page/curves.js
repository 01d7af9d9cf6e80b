// Errors, losses, learning rate and speed over the iterations.

const iterations = new Axis("iteration", {
  label: (value) => number(Math.round(value)),
  key: "zoom",
});

function curveControls() {
  return [
    el(
      "label",
      null,
      "Smoothing",
      el("input", {
        type: "range",
        min: 0,
        max: 0.98,
        step: 0.02,
        value: state.smoothing,
        oninput: (event) => choose({ smoothing: Number(event.target.value) }),
      }),
    ),
    el(
      "label",
      null,
      el("input", {
        type: "checkbox",
        checked: state.log,
        onchange: (event) => choose({ log: event.target.checked }),
      }),
      "Logarithmic losses",
    ),
    ...zoomButtons(iterations),
  ];
}

/** The charts; they are made once, and draw themselves again when something is chosen. */
function curveCharts() {
  const named = (kind) => [...new Set(RUNS.flatMap((run) => Object.keys(run.curves[kind] ?? {})))];
  const losses = Object.keys(FACTS.losses).filter(
    (name) => named("train").includes(name) || named("test").includes(name),
  );
  const charts = [
    ...named("test")
      .filter((name) => name.startsWith("accuracy"))
      .map(errorChart),
    ...(RUNS.length > 1 ? losses.map(lossOfRuns) : losses.length ? [lossesOfOne(losses)] : []),
    named("train").includes("lr")
      ? plainChart("Learning rate", "lr", { log: manyTimes("lr") })
      : null,
    named("train").includes("images/s") ? plainChart("Images per second", "images/s") : null,
  ].filter(Boolean);
  follow(["hidden", "smoothing", "log"], () => iterations.redraw());
  return el(
    "div",
    { class: "charts" },
    charts.map((chart) => chart.element),
  );
}

function errorChart(name) {
  return new Chart(
    iterations,
    `${errorName(name)} in tests, %`,
    () =>
      shownRuns()
        .filter((run) => run.curves.test?.[name])
        .map((run) => ({
          ...style(run),
          marks: true,
          points: run.curves.test[name].map(([x, y]) => [x, y === null ? null : 100 * (1 - y)]),
        })),
    { format: percent },
  );
}

/** One loss of several runs, in the runs' colours; its own colour marks the title. */
function lossOfRuns(name) {
  const chart = new Chart(
    iterations,
    lossTitle(name),
    () =>
      shownRuns().flatMap((run) => [
        ...trained(run, name, style(run)),
        ...tested(run, name, { ...style(run), test: run.name }),
      ]),
    { log: () => state.log },
  );
  chart.element.querySelector("h3").prepend(dot(FACTS.losses[name]), " ");
  return chart;
}

function lossTitle(name) {
  const ofRuns = RUNS.filter((run) => run.curves.train?.[name]);
  return ofRuns.length < RUNS.length
    ? `${name} (only ${ofRuns.map((run) => run.name).join(", ")})`
    : name;
}

/** All losses of the only run, in their own colours. */
function lossesOfOne(losses) {
  const [run] = RUNS;
  return new Chart(
    iterations,
    "Losses",
    () =>
      losses.flatMap((name) => [
        ...trained(run, name, { name, colour: FACTS.losses[name] }),
        ...tested(run, name, { name, test: name, colour: FACTS.losses[name] }),
      ]),
    { log: () => state.log },
  );
}

function trained(run, name, look) {
  const raw = run.curves.train?.[name];
  return raw
    ? [{ ...look, raw: state.smoothing ? raw : null, points: smoothed(raw, state.smoothing) }]
    : [];
}

function tested(run, name, look) {
  const points = run.curves.test?.[name];
  return points ? [{ ...look, dash: "1 4", marks: true, points }] : [];
}

function plainChart(title, name, options) {
  return new Chart(
    iterations,
    title,
    () =>
      shownRuns()
        .filter((run) => run.curves.train?.[name])
        .map((run) => ({ ...style(run), points: run.curves.train[name] })),
    options,
  );
}

function style(run) {
  return { name: run.name, colour: run.colour, dash: run.dash };
}

/** Whether a quantity changes so much that only a logarithmic axis shows it. */
function manyTimes(name) {
  const values = RUNS.flatMap((run) =>
    (run.curves.train?.[name] ?? []).map((point) => point[1]),
  ).filter((value) => value > 0);
  const wide = Math.max(...values) >= 10 * Math.min(...values);
  return () => wide;
}

/** An exponential mean, without a bias to where the curve begins. */
function smoothed(points, keep) {
  let sum = 0;
  let weight = 0;
  return points.map(([x, y]) => {
    if (y === null) return [x, null];
    sum = keep * sum + y;
    weight = keep * weight + 1;
    return [x, sum / weight];
  });
}
