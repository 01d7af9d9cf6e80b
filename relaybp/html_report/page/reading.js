// How a reader moves over a chart, by pointer and by keyboard, and zooms into it.

const LEAST_DRAG = 6; // pixels; less is a click

/** Let a chart follow the reader. */
function listenTo(chart) {
  const { svg: plot, axis } = chart;
  const at = (event) => event.clientX - plot.getBoundingClientRect().left;
  let from = null; // where a drag began, in pixels
  plot.addEventListener("pointermove", (event) => {
    axis.moveTo(nearestStop(chart, chart.valueAt(at(event))));
    if (from !== null) chart.over.append(brush(chart, from, at(event)));
  });
  plot.addEventListener("pointerleave", () => {
    if (from === null && document.activeElement !== plot) axis.moveTo(null);
  });
  plot.addEventListener("pointerdown", (event) => {
    if (event.pointerType === "touch" || event.button) return;
    from = at(event);
    plot.setPointerCapture(event.pointerId);
  });
  plot.addEventListener("pointerup", (event) => {
    const ends = [from, at(event)];
    from = null;
    if (ends[0] === null || Math.abs(ends[1] - ends[0]) < LEAST_DRAG) return;
    axis.zoomTo(ends.map((pixel) => chart.valueAt(pixel)).sort((one, other) => one - other));
  });
  plot.addEventListener("dblclick", () => axis.zoomTo(null));
  plot.addEventListener("blur", () => axis.moveTo(null));
  plot.addEventListener("keydown", (event) => onKey(chart, event));
}

/** What a drag has covered. */
function brush(chart, from, to) {
  const height = HEIGHT - chart.axis.bottom - TOP + 4;
  const x = Math.min(from, to);
  return svg("rect", { class: "brush", x, width: Math.abs(to - from), y: TOP - 4, height });
}

/** The places in range at which a line has a value, in order. */
function stopsOf(chart) {
  const [low, high] = chart.axis.range;
  const points = chart.drawn.flatMap((line) => line.points.filter(([, y]) => y !== null));
  const xs = new Set(points.map(([x]) => x).filter((x) => x >= low && x <= high));
  return [...xs].sort((one, other) => one - other);
}

/** The stop that is nearest to a value; null where there is none. */
function nearestStop(chart, value) {
  const closer = (one, other) => (Math.abs(other - value) < Math.abs(one - value) ? other : one);
  const stops = stopsOf(chart);
  return stops.length ? stops.reduce(closer) : null;
}

function onKey(chart, event) {
  const { axis } = chart;
  const stops = stopsOf(chart);
  const place = axis.cursor === null ? stops.length : stops.indexOf(axis.cursor);
  const moves = {
    ArrowLeft: place - 1,
    ArrowDown: place - 1,
    ArrowRight: place + 1,
    ArrowUp: place + 1,
    PageDown: place - 10,
    PageUp: place + 10,
    Home: 0,
    End: stops.length - 1,
  };
  if (event.key in moves) {
    axis.moveTo(stops[Math.max(0, Math.min(stops.length - 1, moves[event.key]))] ?? null);
  } else if (event.key === "+") axis.zoomBy(0.5);
  else if (event.key === "-") axis.zoomBy(2);
  else if (event.key === "Escape") axis.zoomTo(null);
  else return;
  event.preventDefault();
}
