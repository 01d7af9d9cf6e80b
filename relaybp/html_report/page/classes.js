// The error of every class, of all runs beside each other.

const FEW = 40;
const classes = { top: 2, all: false, order: "worst" }; // top: the column of the rows

function classControls(redraw) {
  const k = RUNS.find((run) => run.classes.rows)?.classes.k ?? 5;
  const pick = (key, value, text) =>
    el(
      "label",
      null,
      el("input", {
        type: "radio",
        name: `classes-${key}`,
        checked: classes[key] === value,
        onchange: () => {
          classes[key] = value;
          redraw();
        },
      }),
      text,
    );
  return [
    el(
      "fieldset",
      { class: "pick" },
      el("legend", { class: "unseen" }, "Which error"),
      pick("top", 2, "Top-1"),
      k > 1 ? pick("top", 3, `Top-${k}`) : null,
    ),
    el(
      "fieldset",
      { class: "pick" },
      el("legend", { class: "unseen" }, "Order"),
      pick("order", "worst", "Worst first"),
      pick("order", "gap", "Most different first"),
      pick("order", "name", "By name"),
    ),
  ];
}

function drawClasses(redraw) {
  const runs = shownRuns().filter((run) => !run.classes.missing);
  const left = shownRuns().filter((run) => run.classes.missing);
  if (!runs.length) return left.map((run) => missing(run.classes));
  const rows = classRows(runs);
  const shown = classes.all ? rows : rows.slice(0, FEW);
  const most = Math.max(1, ...rows.flatMap((row) => row.errors.filter((error) => error !== null)));
  return [
    note(`${rows.length} classes. ${testedOn(runs)}. `, `Full width is ${percent(most)}.`),
    el(
      "ul",
      { class: "bars" },
      shown.map((row) => classBars(row, runs, most)),
    ),
    rows.length > shown.length
      ? el(
          "p",
          null,
          el(
            "button",
            {
              type: "button",
              onclick: () => {
                classes.all = true;
                redraw();
              },
            },
            `Show all ${rows.length} classes`,
          ),
        )
      : null,
    ...left.map((run) => missing(run.classes)),
  ];
}

/** On how many images, by which protocol; said once where it is the same for all. */
function testedOn(runs) {
  const said = ({ images, protocol }) => `${number(images)} images, protocol ${protocol}`;
  return [...new Set(runs.map((run) => said(run.classes)))].join("; ");
}

/** [{name, images, errors: one of each run or null}] in the order that was chosen. */
function classRows(runs) {
  const rows = new Map();
  runs.forEach((run, place) =>
    run.classes.rows.forEach((row) => {
      if (!rows.has(row[0]))
        rows.set(row[0], { name: row[0], images: row[1], errors: runs.map(() => null) });
      rows.get(row[0]).errors[place] = row[classes.top];
    }),
  );
  const known = (row) => row.errors.filter((error) => error !== null);
  const keys = {
    worst: (row) => -known(row).reduce((sum, error) => sum + error, 0) / known(row).length,
    gap: (row) => Math.min(...known(row)) - Math.max(...known(row)),
    name: () => 0,
  };
  const key = keys[classes.order];
  return [...rows.values()].sort(
    (one, other) => key(one) - key(other) || one.name.localeCompare(other.name),
  );
}

function classBars(row, runs, most) {
  return el(
    "li",
    null,
    el(
      "div",
      { class: "name", title: row.name },
      brief(row.name),
      el("span", { class: "unseen" }, ":"),
    ),
    el(
      "div",
      null,
      runs.map((run, place) => {
        const bar = el("span");
        bar.style.width = `${(100 * (row.errors[place] ?? 0)) / most}%`;
        bar.style.background = run.colour;
        return el(
          "div",
          { class: "of" },
          el("div", { class: "track", title: run.name, "aria-hidden": "true" }, bar),
          el(
            "span",
            { class: "value" },
            el("span", { class: "unseen" }, `${run.name} `),
            percent(row.errors[place]),
          ),
        );
      }),
    ),
  );
}
