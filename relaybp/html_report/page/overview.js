// What came out: a row for each run.

function drawOverview() {
  const runs = shownRuns();
  const accuracies = [...new Set(runs.flatMap((run) => Object.keys(run.overview.tests)))];
  const best = Object.fromEntries(
    accuracies.map((name) => [
      name,
      Math.min(...runs.map((run) => run.overview.tests[name]?.last ?? Infinity)),
    ]),
  );
  const tests = (run) =>
    accuracies.map((name) => testCell(name, run.overview.tests[name], best[name], runs.length));
  const head = [
    "Run",
    ...accuracies.map((name) => ({ text: errorName(name), number: true })),
    { text: "Loss in tests", number: true },
    { text: "Images/s", number: true },
    "Progress",
  ];
  const rows = runs.map((run) => [
    el(
      "th",
      { scope: "row", role: "rowheader" },
      el("span", { class: "named" }, swatch(run.colour, run.dash), " ", run.name),
      el("span", { class: "note" }, run.overview.method),
    ),
    ...tests(run),
    labelled("Loss in tests", number(lastLoss(run))),
    labelled("Images/s", number(middle(run.curves.train?.["images/s"]))),
    progressCell(run.overview),
  ]);
  return [table("Results of each run", head, rows, { class: "results stack" }), evaluations(runs)];
}

/** "accuracy_top1" as "Top-1 error". */
function errorName(accuracy) {
  const top = accuracy.match(/top_?(\d+)/)?.[1];
  return top
    ? `Top-${top} error`
    : accuracy
        .replace("accuracy", "error")
        .replaceAll("_", " ")
        .replace(/^./, (letter) => letter.toUpperCase());
}

function testCell(name, test, best, count) {
  if (!test) return labelled(errorName(name), "–");
  const wins = count > 1 && test.last === best;
  const note =
    test.last > test.best
      ? el("span", { class: "note" }, `best ${percent(test.best)} at ${number(test.at)}`)
      : null;
  return el(
    "td",
    { class: `number big ${wins ? "best" : ""}`, role: "cell", "data-label": errorName(name) },
    el(
      "span",
      null,
      percent(test.last),
      wins ? el("span", { class: "unseen" }, " (the lowest)") : null,
      note,
    ),
  );
}

function labelled(label, text) {
  return el("td", { class: "number", role: "cell", "data-label": label }, el("span", null, text));
}

function progressCell({ iteration, iterations, state }) {
  const bar = el("span");
  bar.style.width = `${iterations ? Math.min(100, (100 * iteration) / iterations) : 0}%`;
  return el(
    "td",
    { role: "cell", "data-label": "Progress" },
    el(
      "div",
      null,
      `${number(iteration)}${iterations ? ` of ${number(iterations)}` : ""}`,
      el("span", { class: "note" }, state),
      el("div", { class: "bar", "aria-hidden": "true" }, bar),
    ),
  );
}

/** The final loss in the last test. */
function lastLoss(run) {
  const [name] = Object.keys(FACTS.losses).filter((each) => run.curves.test?.[each]);
  return name ? run.curves.test[name].at(-1)[1] : null;
}

function middle(points) {
  const values = (points ?? []).map((point) => point[1]).sort((one, other) => one - other);
  return values.length ? values[Math.floor(values.length / 2)] : null;
}

/** What `relay evaluate` measured, of all runs. */
function evaluations(runs) {
  const rows = runs.flatMap((run) =>
    run.overview.results.map((result) => [
      el("th", { scope: "row", role: "rowheader" }, run.name),
      el("td", { role: "cell", "data-label": "Protocol" }, el("span", null, result.protocol)),
      ...ks(runs).map((k) => labelled(`Top-${k} error`, percent(result.errors[k]))),
      labelled("Images", number(result.images)),
      el("td", { role: "cell", "data-label": "Weights" }, el("span", null, result.weights)),
    ]),
  );
  if (!rows.length)
    return el(
      "p",
      { class: "missing" },
      "No evaluation yet: ",
      el("code", null, runs[0]?.overview.evaluate ?? "relay evaluate RUN"),
      " measures errors by class and keeps the scores.",
    );
  const head = [
    "Run",
    "Protocol",
    ...ks(runs).map((k) => ({ text: `Top-${k} error`, number: true })),
    { text: "Images", number: true },
    "Weights",
  ];
  return el(
    "details",
    null,
    el("summary", null, `Measured by relay evaluate (${rows.length})`),
    table("Results of relay evaluate", head, rows, { class: "stack" }),
  );
}

function ks(runs) {
  return [
    ...new Set(
      runs.flatMap((run) => run.overview.results.flatMap((result) => Object.keys(result.errors))),
    ),
  ];
}
