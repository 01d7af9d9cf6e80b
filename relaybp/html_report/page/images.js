// Images with what the net thinks they are, and what it looks at.

function drawExamples() {
  const found = lookedAt().examples;
  if (found.missing) return missing(found);
  const part = (title, cards) =>
    cards.length
      ? [el("h3", null, title), el("div", { class: "cards" }, cards.map(exampleCard))]
      : [];
  return [
    note(
      `Weights ${found.weights}, protocol ${found.protocol}. `,
      "A bar is as long as the class is likely; ✓ marks the right class.",
    ),
    part("Wrong", found.wrong),
    part("Right", found.right),
  ];
}

function exampleCard(example) {
  const [guess, score] = example.guesses[0];
  return el(
    "figure",
    { class: "card" },
    image(
      example.image,
      `${example.class}, image ${example.name}, classified as ${guess} with ${percent(score)}`,
    ),
    el(
      "figcaption",
      null,
      el("div", { class: "truth" }, brief(example.class)),
      el(
        "ol",
        { class: "guesses" },
        example.guesses.map(([name, share, hit]) => {
          const row = el(
            "li",
            { class: hit && "hit" },
            el("span", null, hit ? "✓ " : "", brief(name)),
            el("span", null, share.toFixed(1)),
          );
          row.style.setProperty("--share", `${share}%`);
          return row;
        }),
      ),
    ),
  );
}

function drawInside() {
  const { filters, responses } = lookedAt();
  return [
    el("h3", null, "First-layer filters"),
    filters.missing ? missing(filters) : filterSheet(filters),
    el("h3", null, "What decides, pixel by pixel"),
    responses.missing ? missing(responses) : saliencyCards(responses),
    responses.missing
      ? null
      : [
          el("h3", null, "One image on its way up"),
          note(
            `The first image above (${brief(responses.saliency[0].class)}), by ${responses.weights}: `,
            "some channels of the first layer and of the last one of each size of map, each from ",
            "its least value (dark) to its greatest.",
          ),
          el("div", { class: "sheets" }, responses.activations.map(activationSheet)),
        ],
  ];
}

function filterSheet(filters) {
  const sheet = image(filters.image, `${filters.text}, of layer ${filters.layer}`, {
    class: "sheet filters",
  });
  sheet.addEventListener("load", () => {
    const { naturalWidth: width } = sheet;
    sheet.style.width = `${Math.max(width, Math.min(640, width * 10))}px`;
  });
  return [note(`${filters.layer}: ${filters.text}.`), sheet];
}

function saliencyCards({ saliency }) {
  return [
    note(
      "Bright: where a small change of the pixel changes the score of the predicted class most ",
      "(the absolute gradient).",
    ),
    el(
      "div",
      { class: "cards" },
      saliency.map((each) =>
        el(
          "figure",
          { class: "card" },
          el(
            "div",
            { class: "pair" },
            image(each.image, each.class),
            image(each.heat, `Saliency of ${each.predicted} in it`),
          ),
          el(
            "figcaption",
            { class: "small" },
            el("div", { class: "truth" }, brief(each.class)),
            `seen as ${brief(each.predicted)}, ${percent(each.score)}`,
          ),
        ),
      ),
    ),
  ];
}

function activationSheet(sheet) {
  return el(
    "figure",
    null,
    image(sheet.image, `Activations of ${sheet.blob}`, { class: "sheet wide" }),
    el("figcaption", { class: "small" }, el("strong", null, sheet.blob), ` ${sheet.text}`),
  );
}
