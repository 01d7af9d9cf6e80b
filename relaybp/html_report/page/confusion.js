// Which classes are taken for which.

function drawConfusion() {
  const found = lookedAt().confusion;
  if (found.missing) return missing(found);
  const part = found.classes.length < found.of ? `The ${found.classes.length} of ${found.of} classes that are confused most. ` : "";
  return el("div", { class: "two" },
    el("div", null, el("p", { class: "small muted" }, `${part}Rows are true classes, columns predicted ones; a cell says how many images, its shade the share of its row.`),
      scrolling("Confusion matrix", matrix(found))),
    el("div", null, el("h3", null, "The worst pairs"), worstPairs(found)));
}

function matrix({ classes: names, counts }) {
  const head = [el("td", { role: "cell" }), ...names.map((name) => el("th", { scope: "col", role: "columnheader" }, name))];
  return table("Confusion matrix: rows are true classes, columns predicted ones", head, names.map((name, row) => {
    const total = counts[row].reduce((sum, count) => sum + count, 0) || 1;
    return [name, ...counts[row].map((count, column) => {
      const cell = el("td", { role: "cell", class: row === column && "right", title: `${name} taken for ${names[column]}: ${count}` }, count || "·");
      cell.style.background = `color-mix(in srgb, var(--heat) ${Math.round((60 * count) / total)}%, var(--surface))`;
      return cell;
    })];
  }), { class: "matrix" });
}

function worstPairs({ pairs }) {
  return table("The worst pairs of classes", ["Class", "Taken for", { text: "Images", number: true }],
    pairs.map(([truth, taken, count, share]) => [truth, taken, numeric(`${number(count)} (${share.toFixed(1)} %)`)]), { class: "pairs" });
}
