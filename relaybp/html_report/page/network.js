// The trunk of the net from left to right, its branches, and in colour what each loss trains.

const MANY = 45; // units; from here on, boxes are narrow and have no names

function drawNetwork() {
  const net = lookedAt().network;
  if (net.missing) return missing(net);
  const layers = [...net.units, ...net.branches].flatMap((part) => part.layers);
  const sum = (key) => layers.reduce((total, layer) => total + layer[key], 0);
  const detail = el("div", { class: "detail", id: "detail", "aria-live": "polite" });
  return [
    note(
      `${short(sum("parameters"))} learned parameters, ${short(sum("multiply_adds"))} `,
      "multiply-adds for one image, branches included. Multiply-adds of a training step: ",
      `${net.steps.map(([name, share]) => `${name} ${number(share)}`).join(", ")}.`,
    ),
    el(
      "ul",
      { class: "losses" },
      net.flows.map((flow) =>
        el(
          "li",
          null,
          dot(FACTS.losses[flow.loss]),
          el("strong", null, flow.loss),
          `weight ${number(flow.weight)}, trains ${reach(net, flow)}`,
        ),
      ),
      net.units.every((unit) => unit.losses.length)
        ? null
        : el("li", null, dot("var(--raised)"), "nothing to train"),
    ),
    el("div", { class: "scroll" }, diagram(net, detail)),
    detail,
  ];
}

function reach(net, flow) {
  if (flow.first === null) return "its own branch";
  return `${net.units[flow.first].name} to ${net.units[flow.last].name}`;
}

/** The grid: a column for each unit, rows for branches, trunk, stages and the lanes of flows. */
function diagram(net, detail) {
  const many = net.units.length > MANY;
  const wide = many ? 12 : 34;
  const columns = net.units.map(
    (unit) => `minmax(${unit.has_weights ? wide : wide / 2}px, ${unit.has_weights ? 1 : 0.4}fr)`,
  );
  const grid = el("div", {
    class: "net",
    role: "toolbar",
    "aria-label": "The network, from the data to the final loss; arrow keys move",
  });
  if (many) grid.style.columnGap = "3px";
  grid.style.gridTemplateColumns = [...columns, "34px"].join(" ");
  const buttons = net.units.map((unit, place) => unitButton(net, unit, place));
  const heads = net.branches.map((branch) => branchButton(net, branch));
  grid.append(
    place(el("div", { class: "axis", "aria-hidden": "true" }), "1 / -1", 2),
    ...buttons,
    ...heads,
    ...net.stages.map((stage, place) => stageLabel(net, stage, place)),
    ...net.flows.flatMap((flow, lane) => flowLane(net, flow, lane)),
  );
  const inOrder = [
    ...net.units.map((unit, place) => [place, buttons[place], unit]),
    ...net.branches.map((branch, place) => [
      branch.unit + 0.5,
      heads[place],
      { ...branch, name: `branch of ${branch.loss}` },
    ]),
  ]
    .sort(([one], [other]) => one - other)
    .map(([, button, part]) => [button, part]);
  rove(inOrder, detail);
  return grid;
}

function place(element, column, row) {
  element.style.gridColumn = column;
  element.style.gridRow = row;
  return element;
}

function unitButton(net, unit, index) {
  const trained = unit.losses.length
    ? `trained by ${unit.losses.join(" and ")}`
    : "nothing to train";
  const button = el(
    "button",
    { type: "button", class: "unit", "aria-label": `${unit.name}, ${trained}` },
    net.units.length > MANY ? "" : unit.name,
  );
  button.style.height = `${height(net, unit)}px`;
  const share = 100 / (unit.losses.length || 1);
  const bands = unit.losses.map((loss, number) => {
    const tint = `color-mix(in srgb, ${FACTS.losses[loss]} 55%, var(--surface))`;
    return `${tint} ${number * share}% ${(number + 1) * share}%`;
  });
  if (bands.length) button.style.background = `linear-gradient(to top, ${bands.join(", ")})`;
  return place(button, index + 1, 2);
}

/** The height of a box in pixels, as its map is large. */
function height(net, unit) {
  const most = Math.max(2, ...net.units.map((each) => each.side));
  return 62 + (unit.side ? (90 * Math.log2(unit.side)) / Math.log2(most) : 0);
}

function branchButton(net, branch) {
  const kinds = {
    Convolution: "conv",
    Pooling: "pool",
    InnerProduct: "fc",
    SPP: "spp",
    BatchNorm: null,
    Scale: null,
    ReLU: null,
  };
  const words = branch.layers
    .map((layer) => kinds[layer.type])
    .filter(Boolean)
    .reverse();
  const colour = FACTS.losses[branch.loss];
  const button = el(
    "button",
    { type: "button", class: "head-box" },
    el("span", { class: "unseen" }, `branch of ${branch.loss}`),
    mark(branch.loss),
    words.map((word) => el("div", null, word)),
  );
  button.style.background = `color-mix(in srgb, ${colour} 26%, var(--surface))`;
  return place(button, branch.unit + 1, 1);
}

/** The circle of a loss. */
function mark(loss) {
  const circle = el("span", { class: "loss-mark", "aria-hidden": "true" }, "L");
  circle.style.background = FACTS.losses[loss];
  circle.style.color = textOn(FACTS.losses[loss]);
  return circle;
}

function stageLabel(net, [first, last], number) {
  const { side } = net.units[first];
  const text = side ? `${side}×${side}` : "classes";
  return place(
    el("div", { class: "stage", title: `segment ${number + 1}` }, text),
    `${first + 1} / ${last + 2}`,
    3,
  );
}

/** The arrow over what a loss trains, and the stem that leads to it from the loss. */
function flowLane(net, flow, number) {
  const colour = FACTS.losses[flow.loss];
  const branch = net.branches.find((each) => each.loss === flow.loss);
  const end = branch ? branch.unit + 1 : net.units.length + 1;
  const stem = el("div", { class: "stem", "aria-hidden": "true" });
  stem.style.background = colour;
  place(stem, end, branch ? `1 / ${number + 5}` : `2 / ${number + 5}`);
  const parts = [stem];
  if (!branch) {
    stem.style.justifySelf = "center";
    stem.style.margin = `${Math.max(...net.units.map((unit) => height(net, unit))) / 2}px 0 0`;
    parts.push(place(mark(flow.loss), end, 2));
  }
  if (flow.first !== null) {
    const lane = el(
      "div",
      { class: "lane", title: `${flow.loss} trains ${reach(net, flow)}` },
      flow.loss,
    );
    lane.style.background = colour;
    lane.style.color = textOn(colour);
    if (branch) lane.style.marginRight = "-5px";
    else lane.style.marginRight = "15px";
    parts.push(place(lane, `${flow.first + 1} / ${end + 1}`, number + 4));
  }
  return parts;
}

/** One of the buttons can be reached by Tab, the others by arrow keys; what is touched is shown. */
function rove(parts, detail) {
  const show = (index) => {
    parts.forEach(([button], other) => {
      button.tabIndex = other === index ? 0 : -1;
      button.setAttribute("aria-pressed", other === index);
    });
    detail.replaceChildren(...layerDetails(parts[index][1]));
  };
  parts.forEach(([button], index) => {
    button.addEventListener("mouseenter", () => show(index));
    button.addEventListener("focus", () => show(index));
    button.addEventListener("click", () => show(index));
    button.addEventListener("keydown", (event) => {
      const to = { ArrowRight: index + 1, ArrowLeft: index - 1, Home: 0, End: parts.length - 1 }[
        event.key
      ];
      if (to === undefined || !parts[to]) return;
      parts[to][0].focus();
      event.preventDefault();
    });
  });
  show(0);
}

function layerDetails(part) {
  const rows = part.layers.map((layer) => [
    layer.name,
    layer.type,
    layer.shape.join("×"),
    numeric(layer.parameters ? number(layer.parameters) : ""),
    numeric(layer.multiply_adds ? short(layer.multiply_adds) : ""),
    el(
      "td",
      { role: "cell" },
      layer.losses.map((loss) => el("div", null, dot(FACTS.losses[loss]), " ", loss)),
    ),
  ]);
  return [
    el("h3", null, part.name),
    scrolling(
      `Layers of ${part.name}`,
      table(
        `Layers of ${part.name}`,
        [
          "Layer",
          "Type",
          "Output",
          { text: "Parameters", number: true },
          { text: "Multiply-adds", number: true },
          "Trained by",
        ],
        rows,
      ),
    ),
  ];
}
