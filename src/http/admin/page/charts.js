// The last fifteen minutes, or hours of one-minute figures, in four charts with one cursor. uPlot draws; this owns what is
// drawn, its colours, and the figures above: the newest ones, or those under the cursor.

import { h, put, say } from "./dom.js";
import { count, known, rate, span } from "./format.js";
import { column } from "./rates.js";
import uPlot from "./uplot.js";

/** What is shown at first: button, and seconds. */
export const RANGES = [
  ["15 min", 15 * 60],
  ["3 h", 3 * 3_600],
  ["24 h", 24 * 3_600],
];
const HEIGHT = 148;
const CURSORS = "overview";
/** Samples for which the last known latency still stands: it is of loads, and there need not be any. */
const LATELY = 60;

/** Title, how a value is written, and its series: field, label, colour, dashes. */
const CHARTS = [
  ["Accepted", rate, [["accepted_per_second", "", "--accent"]]],
  ["Loaded", rate, [["loaded_per_second", "", "--good"]]],
  ["Backlog", count, [["backlog", "", "--warn"]]],
  [
    "End-to-end latency",
    span,
    [
      ["latency_p50_ms", "p50", "--accent"],
      ["latency_p95_ms", "p95", "--good", [2, 3]],
      ["latency_p99_ms", "p99", "--second", [5, 4]],
    ],
  ],
];

const axisSpan = (value) => (value === 0 ? "0" : span(value));
const clock = new Intl.DateTimeFormat("en-GB", { timeStyle: "medium" });
const hour = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit" });

export function openCharts() {
  const charts = CHARTS.map(open);
  const scheme = matchMedia("(prefers-color-scheme: dark)");
  const redraw = () => charts.forEach((chart) => chart.draw());
  scheme.addEventListener("change", redraw);
  return {
    element: h(
      "div",
      { class: "charts" },
      charts.map((chart) => chart.element),
    ),
    /** `seconds` back from the newest. */
    show(samples, seconds = RANGES[0][1]) {
      // What is accepted and what is loaded are compared: they have one scale.
      const most = highest([[], ...CHARTS[0][2].concat(CHARTS[1][2]).map(([field]) => column(samples, field, smoothed(seconds)))]);
      charts.forEach((chart) => chart.show(samples, most, seconds));
    },
    close() {
      scheme.removeEventListener("change", redraw);
      charts.forEach((chart) => chart.close());
    },
  };
}

function open([title, write, series]) {
  const values = series.map(([, label, colour, dash]) => {
    const value = h("strong");
    return {
      value,
      element: h(
        "span",
        { class: `series ${colour.slice(2)}${dash ? " dashed" : ""}` },
        label && h("span", { class: "key" }, label),
        value,
      ),
    };
  });
  const when = h("span", { class: "faint when" });
  const place = h("div", { class: "plot", role: "img" });
  const element = h(
    "figure",
    { class: "panel chart" },
    h(
      "figcaption",
      {},
      h("span", { class: "title" }, title),
      values.map((value) => value.element),
      when,
    ),
    place,
  );
  let columns = [[], ...series.map(() => [])];
  let plot = null;
  let mostOfRates = null;
  let range = RANGES[0][1];

  /** `at` is the place of the cursor; without one, the newest that is known stands there. */
  function sayFigures(at) {
    // The cursor learns of new samples later than we do, and there may be fewer of them.
    const isPast = known(at) && at < columns[0].length;
    const newest = (column) => column.slice(write === span ? -LATELY : -1).findLast(known);
    values.forEach(({ value }, index) => {
      const column = columns[index + 1];
      say(value, write(isPast ? column[at] : newest(column)));
    });
    say(when, isPast ? clock.format(columns[0][at] * 1_000) : "");
  }

  function draw() {
    plot?.destroy();
    plot = null;
    put(place);
    if (!place.clientWidth) return;
    plot = new uPlot(options(place.clientWidth, write, series, sayFigures, { top: () => mostOfRates, range: () => range }), columns, place);
  }

  const watch = new ResizeObserver(() => {
    if (plot && place.clientWidth) plot.setSize({ width: place.clientWidth, height: HEIGHT });
    else draw();
  });
  watch.observe(place);
  return {
    element,
    draw,
    show(samples, most, seconds) {
      if (write === rate) mostOfRates = most;
      range = seconds;
      columns = [samples.map((sample) => sample.at / 1_000), ...series.map(([field]) => column(samples, field, smoothed(seconds)))];
      plot?.setData(columns);
      sayFigures(plot?.cursor.idx);
      const [name] = RANGES.find(([, many]) => many === range);
      place.setAttribute("aria-label", `${title}, last ${name}; highest ${write(highest(columns))}`);
    },
    close() {
      watch.disconnect();
      plot?.destroy();
    },
  };
}

/** Figures of minutes are means already. */
const smoothed = (seconds) => (seconds === RANGES[0][1] ? undefined : 1);

const highest = ([, ...columns]) => columns.flat().reduce((most, value) => (value > (most ?? -1) ? value : most), null);

/** Places of values with none beside them, which no line shows. */
function lonely(plot, series) {
  const values = plot.data[series];
  return values.flatMap((value, at) => (known(value) && !known(values[at - 1]) && !known(values[at + 1]) ? [at] : []));
}

function options(width, write, series, sayFigures, bounds) {
  const style = getComputedStyle(document.documentElement);
  const colour = (name) => style.getPropertyValue(name).trim();
  const axis = {
    stroke: colour("--faint"),
    font: "11px system-ui, sans-serif",
    ticks: { show: false },
    grid: { stroke: colour("--line"), width: 1 },
  };
  return {
    width,
    height: HEIGHT,
    // On the right, half of a time's label, which stands below the newest.
    padding: [8, 18, 0, 0],
    legend: { show: false },
    cursor: { y: false, drag: { x: false }, points: { size: 7 }, sync: { key: CURSORS } },
    scales: {
      x: { range: (_, __, last) => [(last ?? Date.now() / 1_000) - bounds.range(), last ?? Date.now() / 1_000] },
      y: { range: (_, __, most) => [0, Math.max(Math.max(most ?? 0, bounds.top() ?? 0) * 1.15, write === span ? 10 : 4)] },
    },
    axes: [
      {
        ...axis,
        grid: { show: false },
        space: 70,
        size: 26,
        values: (_, ticks) => ticks.map((tick) => hour.format(tick * 1_000)),
      },
      {
        ...axis,
        size: 52,
        space: 34,
        values: (_, ticks) => ticks.map((tick) => (write === span ? axisSpan(tick) : count(tick))),
      },
    ],
    series: [
      {},
      ...series.map(([, , name, dash]) => ({
        stroke: colour(name),
        fill: dash ? undefined : `${colour(name)}1a`,
        width: 1.5,
        dash,
        points: { show: false, size: 4, filter: lonely },
      })),
    ],
    hooks: { setCursor: [(plot) => sayFigures(plot.cursor.idx)] },
  };
}
