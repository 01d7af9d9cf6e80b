// What --probe measured: the gradients of each loss in each layer, and where they meet.

const QUANTITIES = [
  ["gradient", "Mean |g| of the weights", { log: () => true }],
  ["relative", "Mean |g| over mean |w|", { log: () => true }],
  ["share", "Share of each loss where flows meet, %", { format: percent }],
  ["cosine", "Cosine between the gradients of two losses", {}],
];

function drawGradients() {
  const probed = lookedAt().gradients;
  if (probed.missing) return missing(probed);
  const layers = new Axis("layer", {
    places: () => probed.layers,
    label: (value) => probed.layers[Math.round(value)],
    bottom: 92,
  });
  const last = probed.iterations.length - 1;
  let at = last;
  const said = el("output", null, number(probed.iterations[last]));
  const slider = el("input", {
    type: "range",
    min: 0,
    max: last,
    value: last,
    "aria-label": "Probed iteration",
    oninput: (event) => {
      at = Number(event.target.value);
      said.value = number(probed.iterations[at]);
      layers.redraw();
    },
  });
  const charts = QUANTITIES.filter(([quantity]) => Object.keys(probed[quantity]).length).map(
    ([quantity, title, options]) =>
      new Chart(
        layers,
        title,
        () =>
          Object.entries(probed[quantity]).map(([flow, rows], number) => ({
            name: flow === "all" ? "all flows" : flow,
            colour: flowColour(flow, number),
            dash: flow === "all" ? "2 3" : null,
            marks: true,
            points: rows[at].map((value, place) => [
              place,
              quantity === "share" && value !== null ? 100 * value : value,
            ]),
          })),
        options,
      ),
  );
  return [
    el(
      "div",
      { class: "controls above" },
      el("label", null, "Iteration", slider, said),
      ...zoomButtons(layers),
    ),
    el(
      "div",
      { class: "charts" },
      charts.map((chart) => chart.element),
    ),
  ];
}

/** A loss has its colour; all together are ink, and pairs take what no loss has. */
function flowColour(flow, number) {
  return (
    FACTS.losses[flow] ??
    (flow === "all" ? "var(--ink)" : ["#e69f00", "#56b4e9", "#7a5230"][number % 3])
  );
}
