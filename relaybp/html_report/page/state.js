// What the reader has chosen: runs that are compared, the one looked at. It outlives a reload.

const DASHES = [null, "7 3", "2 3", "9 3 2 3"];
const KEPT = `report ${location.pathname}`;
const state = {
  hidden: [],
  run: 0,
  smoothing: 0.8,
  log: false,
  zoom: null,
  theme: "light dark",
  ...kept(),
};
const listeners = [];

function kept() {
  try {
    return JSON.parse(sessionStorage.getItem(KEPT)) ?? {};
  } catch {
    return {}; // a browser may refuse to keep anything for a file
  }
}

/** Change some of the state, and call who listens to it. */
function choose(changes) {
  Object.assign(state, changes);
  try {
    sessionStorage.setItem(KEPT, JSON.stringify(state));
  } catch {
    // see kept
  }
  for (const [keys, listener] of listeners) {
    if (keys.some((key) => key in changes)) listener();
  }
}

/** Call a function now, and whenever one of these parts of the state changes. */
function follow(keys, listener) {
  listeners.push([keys, listener]);
  listener();
}

const RUNS = FACTS.runs.map((run, place) => ({
  ...run,
  place,
  dash: DASHES[place % DASHES.length],
}));
if (!(state.run < RUNS.length)) state.run = 0;

// A class is called by its name up to the first comma, where no other is called so.
const CLASS_NAMES = new Set(RUNS.flatMap((run) => (run.classes.rows ?? []).map((row) => row[0])));
const USES = [...CLASS_NAMES]
  .map(firstPart)
  .reduce((uses, part) => uses.set(part, (uses.get(part) ?? 0) + 1), new Map());

function firstPart(name) {
  return name.split(",")[0].trim();
}

function brief(name) {
  return USES.get(firstPart(name)) === 1 ? firstPart(name) : name;
}

/** The runs that are not switched off. */
function shownRuns() {
  return RUNS.filter((run) => !state.hidden.includes(run.name));
}

/** The run whose net, classes and images are shown. */
function lookedAt() {
  return RUNS[state.run];
}

/** The switches of all runs. */
function runSwitches() {
  return RUNS.map((run) =>
    el(
      "label",
      { class: "run" },
      el("input", {
        type: "checkbox",
        checked: !state.hidden.includes(run.name),
        onchange: (event) =>
          choose({
            hidden: event.target.checked
              ? state.hidden.filter((name) => name !== run.name)
              : [...state.hidden, run.name],
          }),
      }),
      swatch(run.colour, run.dash),
      run.name,
    ),
  );
}

/** Radio buttons that choose the run that is looked at; none for a single run. */
let pickers = 0;
function runPicker() {
  if (RUNS.length < 2) return null;
  const name = `pick${pickers++}`;
  const buttons = RUNS.map((run, place) =>
    el("input", {
      type: "radio",
      name,
      value: place,
      onchange: () => choose({ run: place }),
    }),
  );
  follow(["run"], () => buttons.forEach((button, place) => (button.checked = place === state.run)));
  return el(
    "fieldset",
    { class: "pick" },
    el("legend", { class: "unseen" }, "Run that is shown"),
    RUNS.map((run, place) => el("label", null, buttons[place], run.name)),
  );
}
