// Which classes are taken for which.

const MOST = 60; // % of the colour, so that a number on it can be read

function drawConfusion() {
  const found = lookedAt().confusion;
  if (found.missing) return missing(found);
  const part =
    found.classes.length < found.of
      ? `The ${found.classes.length} of ${found.of} classes that are confused most. `
      : "";
  return el(
    "div",
    { class: "two" },
    el(
      "div",
      null,
      note(
        `${part}Rows are true classes, columns predicted ones; `,
        "a cell says how many images, its shade the share of the true class.",
      ),
      scrolling("Confusion matrix", matrix(found)),
    ),
    el("div", null, el("h3", null, "The worst pairs"), worstPairs(found)),
  );
}

function matrix({ classes: names, counts, totals }) {
  const head = [
    el("td", { role: "cell" }),
    ...names.map((name) =>
      el("th", { scope: "col", role: "columnheader", title: name }, el("span", null, brief(name))),
    ),
  ];
  return table(
    "Confusion matrix: rows are true classes, columns predicted ones",
    head,
    names.map((name, row) => {
      return [
        el("th", { scope: "row", role: "rowheader", title: name }, brief(name)),
        ...counts[row].map((count, column) => {
          const cell = el(
            "td",
            {
              role: "cell",
              class: row === column && "right",
              title: `${name} taken for ${names[column]}: ${count}`,
            },
            count || "·",
          );
          const strength = Math.round((MOST * count) / (totals[row] || 1));
          cell.style.background = `color-mix(in srgb, var(--heat) ${strength}%, var(--surface))`;
          return cell;
        }),
      ];
    }),
    { class: "matrix" },
  );
}

function worstPairs({ pairs }) {
  return table(
    "The worst pairs of classes",
    ["Class", "Taken for", { text: "Images", number: true }],
    pairs.map(([truth, taken, count, share]) => [
      brief(truth),
      brief(taken),
      numeric(`${number(count)} (${share.toFixed(1)} %)`),
    ]),
    { class: "pairs" },
  );
}
