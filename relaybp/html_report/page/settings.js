// What the runs are: the settings that differ, and the files that say everything.

function drawDifferences() {
  if (RUNS.length < 2)
    return el(
      "p",
      { class: "missing" },
      "One run: with several, as in ",
      el("code", null, 'make report RUN="runs/a runs/b"'),
      ", the settings that differ stand here.",
    );
  if (!FACTS.differences.length)
    return el("p", { class: "missing" }, "Nothing that is recorded differs between these runs.");
  const head = [
    "Setting",
    ...RUNS.map((run) =>
      el("th", { scope: "col", role: "columnheader" }, swatch(run.colour, run.dash), " ", run.name),
    ),
  ];
  const rows = FACTS.differences.map(([name, ...values]) => [
    settingName(name),
    ...values.map((value, place) =>
      el("td", { role: "cell", "data-label": RUNS[place].name }, el("span", null, value)),
    ),
  ]);
  return table("Settings that differ", head, rows, { class: "stack" });
}

/** "settings.base_lr" as "base_lr", "method.schedule" as "method: schedule". */
function settingName(name) {
  return name
    .replace(/^settings\./, "")
    .replaceAll(".", ": ")
    .replaceAll("_", " ");
}

function drawFiles() {
  const { overview, files } = lookedAt();
  const facts = [
    ["Folder", overview.path],
    ["Model", overview.model],
    ["Method", overview.method],
    ["Images per update", number(overview.images)],
    ["Commit", overview.commit ?? "not recorded"],
  ];
  return [
    table(
      "What the run is",
      [],
      facts.map(([name, value]) => [name, el("td", { role: "cell" }, el("code", null, value))]),
      { class: "facts" },
    ),
    Object.entries(files).map(([name, text]) =>
      el(
        "details",
        null,
        el("summary", null, name),
        el("pre", { tabindex: 0, role: "region", "aria-label": name }, text),
      ),
    ),
  ];
}
