// Draws the charts of a page and lets its controls set their parameters.
"use strict";

const payload = JSON.parse(document.getElementById("payload").textContent);
const controls = document.getElementById("controls");
const dark = window.matchMedia("(prefers-color-scheme: dark)");
const views = new Map();

for (const swatch of document.querySelectorAll(".swatch")) {
  swatch.style.background = swatch.dataset.color;
}

function state() {
  const form = new FormData(controls);
  const place = (name) => {
    const value = form.get(name);
    return value === "lead" || value === "all" ? value : Number(value);
  };
  return {
    axis: form.get("axis"),
    shown: form.getAll("trajectory"),
    domains: form.getAll("domain"),
    layer: place("layer"),
    head: place("head"),
    fits: form.has("fits"),
  };
}

function theme() {
  const style = getComputedStyle(document.documentElement);
  const ink = style.getPropertyValue("--ink").trim();
  const faint = style.getPropertyValue("--faint").trim();
  const axis = {
    labelColor: ink, titleColor: ink, domainColor: faint, tickColor: faint, gridColor: faint,
    gridOpacity: 0.45, labelFontSize: 12, titleFontSize: 12, titleFontWeight: "normal",
  };
  return { background: "transparent", font: "system-ui, sans-serif", view: { stroke: null }, axis };
}

// The title of an axis cannot depend on a parameter, so a change of axis draws anew.
function specification(name, now) {
  const chart = structuredClone(payload.charts[name]);
  for (const parameter of chart.params) {
    if (parameter.name in now) parameter.value = now[parameter.name];
  }
  for (const layer of chart.layer) {
    if (layer.encoding.x) layer.encoding.x.title = payload.axes[now.axis];
  }
  chart.datasets = { ...chart.datasets, ...payload.data };
  return chart;
}

function showEmptiness(name, view) {
  const figure = document.getElementById(`chart-${name}`).closest("figure");
  const marks = figure.querySelectorAll(".mark-symbol path").length;
  figure.querySelector(".empty").hidden = marks > 0;
}

async function draw() {
  const now = state();
  document.getElementById("without-onset").hidden = now.axis !== "onset";
  for (const name of Object.keys(payload.charts)) {
    views.get(name)?.finalize();
    const result = await vegaEmbed(`#chart-${name}`, specification(name, now), {
      actions: { export: true, source: false, compiled: false, editor: false },
      config: theme(),
      renderer: "svg",
      logLevel: 1, // errors: that a filter leaves a chart empty is said below it
      downloadFileName: `trajectory-${name}`,
    });
    views.set(name, result);
    showEmptiness(name);
  }
  document.body.dataset.drawn = now.axis;
}

async function update() {
  const now = state();
  for (const [name, { view }] of views) {
    for (const [parameter, value] of Object.entries(now)) view.signal(parameter, value);
    await view.runAsync();
    showEmptiness(name);
  }
}

controls.addEventListener("change", (event) => (event.target.name === "axis" ? draw() : update()));
dark.addEventListener("change", draw);
draw();
