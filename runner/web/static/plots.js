// The plots of the overview, and its figures: the server tells both every two seconds.
"use strict";

const POINTS_MAX = 1800;
const COLUMNS = ["at_s", "waiting", "running", "calls_per_s", "records_per_s", "failed_per_min", "usd_per_min"];
const PLOTS = {
  depth: [["waiting", "waiting", "--accent"], ["running", "running", "--good"]],
  speed: [["calls_per_s", "calls/s", "--accent"], ["records_per_s", "records/s", "--good"]],
  spend: [["usd_per_min", "USD/min", "--warn"]],
  errors: [["failed_per_min", "failed/min", "--bad"]],
};
const HEIGHT = 170;

const past = Object.fromEntries(COLUMNS.map((name) => [name, []]));
const drawn = new Map();

function colour(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

function columnsOf(name) {
  return [past.at_s, ...PLOTS[name].map(([column]) => past[column])];
}

function clock(_, moments, _axis, _space, step_s) {
  const length = step_s < 60 ? 8 : 5;
  return moments.map((at_s) => new Date(at_s * 1000).toISOString().slice(11, 11 + length));
}

// until somebody points at a moment, the legend tells the newest one
function tellNewest(plot) {
  setTimeout(() => {
    if (plot.cursor.idx == null && plot.root.isConnected) plot.setLegend({ idx: past.at_s.length - 1 });
  });
}

function draw(figure) {
  const name = figure.dataset.plot;
  figure.querySelector(".still")?.remove();
  figure.querySelector(".title").hidden = false;
  drawn.get(name)?.destroy();
  const axis = { stroke: colour("--soft"), grid: { stroke: colour("--line"), width: 1 }, ticks: { show: false }, space: 64 };
  const options = {
    tzDate: (at_s) => uPlot.tzDate(new Date(at_s * 1000), "Etc/UTC"),
    width: figure.clientWidth - 20,
    height: HEIGHT,
    padding: [null, 26, null, null], // for half of the last moment
    axes: [{ ...axis, size: 28, values: clock }, { ...axis, size: 60, space: 34 }],
    scales: { y: { range: (_, low, high) => [0, Math.max(high * 1.1, 1e-6)] } },
    series: [
      { label: "UTC", value: (_, at_s) => (at_s == null ? "–" : clock(null, [at_s], 0, 0, 1)[0]) },
      ...PLOTS[name].map(([, label, stroke]) => ({ label, stroke: colour(stroke), width: 2, spanGaps: true, points: { show: false } })),
    ],
  };
  const plot = new uPlot(options, columnsOf(name), figure);
  drawn.set(name, plot);
  tellNewest(plot);
}

function drawAll() {
  for (const figure of document.querySelectorAll("[data-plot]")) draw(figure);
}

function say(text, isTrouble) {
  const state = document.getElementById("live-state");
  state.textContent = text;
  state.classList.toggle("bad", isTrouble);
}

function take(look) {
  COLUMNS.forEach((name, place) => {
    past[name].push(look.point[place]);
    if (past[name].length > POINTS_MAX) past[name].shift();
  });
  for (const [name, plot] of drawn) {
    plot.setData(columnsOf(name));
    tellNewest(plot);
  }
  for (const place of document.querySelectorAll("[data-figure]")) {
    const text = look.figures[place.dataset.figure];
    if (place.textContent !== text) place.textContent = text;
  }
  say("live", false);
}

const source = new EventSource("/live");
source.addEventListener("past", (event) => {
  Object.assign(past, JSON.parse(event.data));
  drawAll();
});
source.addEventListener("look", (event) => take(JSON.parse(event.data)));
source.addEventListener("trouble", (event) => say(JSON.parse(event.data), true));
source.addEventListener("error", () => say("not connected: figures are of " + new Date().toLocaleTimeString(), true));
addEventListener("resize", drawAll);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawAll);
