// Draws the charts of a page and lets its controls set their parameters.
"use strict";

const payload = JSON.parse(document.getElementById("payload").textContent);
const controls = document.getElementById("controls");
const views = new Map();
const CANVAS_ROWS = 3000; // more marks than this are slow as elements of the page

const LIGHT = { ink: "#1c2430", faint: "#d5dbe1", paper: "#ffffff" }; // of files, whatever the page looks like

for (const swatch of document.querySelectorAll(".swatch")) {
  swatch.style.background = swatch.dataset.color === LIGHT.ink ? "var(--ink)" : swatch.dataset.color;
}
for (const chart of document.querySelectorAll(".chart")) {
  chart.style.minHeight = `${Number(chart.dataset.height) + 45}px`;
}

// On a phone the choices would fill the first screen; a slider is what its page is about.
if (window.matchMedia("(max-width: 640px)").matches && !controls?.elements.chosen_record) document.getElementById("choices")?.removeAttribute("open");

// ---- controls -------------------------------------------------------------------------------

const valueOf = (text) => (/^-?\d+(\.\d+)?$/.test(text) ? Number(text) : text);

function state() {
  const now = {};
  for (const input of controls?.elements ?? []) {
    if (!input.name) continue;
    if (input.type === "radio") {
      if (input.checked) now[input.name] = valueOf(input.value);
    } else if ("list" in input.dataset) {
      now[input.name] ??= [];
      if (input.checked) now[input.name].push(input.value);
    } else if (input.type === "checkbox") now[input.name] = input.checked;
    else now[input.name] = valueOf(input.value);
  }
  return now;
}

// Leaves a list the options that there are; the greatest that is not above the chosen one stands in.
function offer(name, values) {
  const list = controls?.elements[name];
  if (!list || !values) return;
  const texts = values.map(String);
  for (const option of list.options) option.hidden = option.disabled = !texts.includes(option.value);
  if (!texts.includes(list.value)) list.value = texts.findLast((text) => Number(text) <= Number(list.value)) ?? texts[0];
}

function bound() {
  const now = state();
  // What a link asks for is seen in the list, too.
  for (const fold of document.querySelectorAll(".asked")) fold.open ||= fold.querySelector(":checked") !== null;
  for (const [name, places] of Object.entries(payload.places)) {
    const slider = controls.elements[name];
    slider.setAttribute("aria-valuetext", places[Number(slider.value)]);
    slider.parentElement.querySelector("output").textContent = places[Number(slider.value)];
  }
  for (const part of document.querySelectorAll("[data-when]")) {
    part.hidden = String(now[part.dataset.when]) !== part.dataset.value;
  }
  const of = payload.cube?.[now.chosen_trajectory];
  for (const [name, limits] of Object.entries(payload.facts.limits ?? {})) offer(name, limits[now.chosen_trajectory]);
  offer("chosen_domain", of?.domains);
  offer("other_domain", of?.domains.toReversed());
  if (!of) return;
  const limit = (name, last) => {
    const input = controls.elements[name];
    if (!input) return;
    const before = Number(input.max);
    input.max = last;
    if (input.type === "range" && before !== last) input.value = last;
    if (Number(input.value) > last) input.value = last;
  };
  limit("chosen_record", of.steps.length - 1);
  limit("chosen_layer", of.layers - 1);
  limit("chosen_head", of.heads - 1);
  const slider = controls.elements.chosen_record;
  if (slider) {
    const step = of.steps[Number(slider.value)];
    slider.closest("fieldset").hidden = of.steps.length < 2; // one place is no choice
    slider.setAttribute("aria-valuetext", atStep(step));
    slider.parentElement.querySelector("output").textContent = atStep(step);
  }
}

function choose(values) {
  for (const [name, value] of Object.entries(values)) {
    if (controls.elements[name]) controls.elements[name].value = value;
  }
  changed();
}

// ---- charts ---------------------------------------------------------------------------------

const NARROW = 480; // pixels: a phone, where legends stand one below the other

const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

// Vega would leave out every other one of an axis's own ticks as well.
function theme(spec, width, look) {
  const own = encodings(spec).some(({ x }) => x?.axis?.values);
  const ink = look?.ink ?? colour("--ink");
  const faint = look?.faint ?? colour("--faint");
  const paper = look?.paper ?? colour("--paper");
  const text = { labelColor: ink, titleColor: ink, labelFontSize: 12, titleFontSize: 12, titleFontWeight: "normal" };
  return {
    range: { category: payload.palette },
    background: "transparent", font: "system-ui, sans-serif", view: { stroke: null },
    axis: { ...text, domainColor: faint, tickColor: faint, gridColor: faint, gridOpacity: 0.45, labelOverlap: true, labelSeparation: 3 },
    ...(!own && { axisXQuantitative: { tickCount: payload.ticks } }),
    legend: {
      ...text, gradientLength: 120, labelLimit: 260,
      layout: { top: { margin: 20, ...(width < NARROW && { direction: "vertical", margin: 8 }) } },
    },
    header: text, title: { color: ink }, text: { color: ink }, style: { ink: { color: ink }, halo: { stroke: paper, strokeWidth: 4, strokeJoin: "round" } },
  };
}

function encodings(node, found = []) {
  if (node.encoding) found.push(node.encoding);
  for (const layer of node.layer ?? []) encodings(layer, found);
  return found;
}

const merge = (into, from) => {
  for (const [key, value] of Object.entries(from)) {
    if (value && typeof value === "object" && !Array.isArray(value)) into[key] = merge({ ...into[key] }, value);
    else into[key] = value;
  }
  return into;
};

// Several legends stand one below the other where side by side they would leave the chart.
function roomForLegends(spec, width) {
  const legends = new Set();
  for (const encoding of encodings(spec)) {
    for (const channel of ["color", "fill", "stroke", "shape", "strokeDash"]) {
      const { field, legend } = encoding[channel] ?? {};
      if (field && legend?.orient === "top") legends.add(field);
    }
  }
  return legends.size > 2 && width < 2 * NARROW ? 0 : width;
}

// An axis's title or kind cannot depend on a parameter: such a choice draws the chart anew.
// A mark in the ink of light paper, as a run's only language model, gets the ink that is given; a
// scheme of colours the part of it that is seen on such paper.
function specification(figure, now, ink = LIGHT.ink) {
  const drawn = JSON.stringify(figure.spec).replaceAll(`"${LIGHT.ink}"`, JSON.stringify(ink));
  const shade = ink === LIGHT.ink ? "light" : "dark";
  const spec = JSON.parse(drawn, (key, value) =>
    key === "scheme" && value.extent ? { ...value, extent: payload.schemes[value.name][shade] } : value);
  for (const parameter of spec.params ?? []) {
    if (parameter.name in now) parameter.value = now[parameter.name];
  }
  for (const [control, patches] of Object.entries(figure.patches)) {
    const patch = patches[now[control]] ?? {};
    for (const encoding of encodings(spec)) {
      for (const [channel, change] of Object.entries(patch)) {
        if (encoding[channel]?.field) merge(encoding[channel], change);
        if (encoding[channel]?.scale?.type === "log") delete encoding[channel].scale.zero;
        else if (change.scale && encoding[channel]?.axis) for (const part of ["values", "labelExpr"]) delete encoding[channel].axis[part];
      }
    }
  }
  nameDrawn(figure, spec);
  fit(spec, document.getElementById(figure.name).clientWidth);
  const text = JSON.stringify(spec);
  const data = Object.fromEntries(figure.sources.map((name) => [
    name, name in figure.provided ? cuts[figure.provided[name]](now) : rows(name, text),
  ]));
  spec.description = caption(figure, now, data);
  spec.datasets = { ...spec.datasets, ...data };
  const size = Math.max(0, ...Object.values(data).map((part) => part.length));
  return [spec, size > CANVAS_ROWS ? "canvas" : "svg"];
}

// Every mark that is drawn, reference lines left out.
function marks(name) {
  const found = [];
  const walk = (node) => {
    for (const item of node.items ?? []) {
      if (node.marktype === "group" || item.items) walk(item);
      else if (node.role === "mark" && !item.datum?.meaning) found.push({ type: node.marktype, item });
    }
  };
  walk(views.get(name).view.scenegraph().root);
  return found;
}

function showEmptiness(figure) {
  const element = document.getElementById(figure.name);
  const empty = marks(figure.name).length === 0;
  element.querySelector(".empty").hidden = !empty;
  element.querySelector(".empty").textContent = nothing(figure, state());
  element.querySelector(".chart").classList.toggle("bare", empty);
}

// The sentences below a chart, for these choices.
function caption(figure, now, data) {
  const element = document.getElementById(figure.name);
  const reading = element.querySelector(".reading");
  const chosen = figure.captions?.controls.map((control) => now[control]).join("\n");
  for (const [name, cut] of Object.entries(figure.provided)) {
    const excess = () => cuts[cut](now, "sink_excess");
    reading.textContent = sentences[cut](data[name], now, payload.facts.statistics[statistic(now)], excess);
  }
  if (figure.captions && !Object.keys(figure.provided).length) {
    reading.textContent = figure.captions.readings[chosen] ?? "Nothing was measured for this choice.";
  }
  figure.told ??= reading.textContent;
  if (!figure.captions && !Object.keys(figure.provided).length) reading.textContent = figure.told;
  const definition = figure.captions?.definitions[chosen];
  if (definition) element.querySelector(".definition").textContent = `${definition}.`;
  return described(element, reading);
}

const described = (element, reading) => `${element.querySelector(".title").textContent}. ${reading.textContent}`;

// Choices that leave a part of what a chart's sentence tells of.
const NARROWING = ["shown", "shown_domains", "chosen_layer", "chosen_head"];

// Where the page's choices hide something, the sentence tells of what is left.
function tellShown(figure, now) {
  const own = (figure.spec.params ?? []).map(({ name }) => name);
  if (Object.keys(figure.provided).length) return; // its sentence follows every choice
  const hides = NARROWING.filter((name) => own.includes(name) && name in now);
  if (!hides.some((name) => JSON.stringify(now[name]) !== JSON.stringify(usual[name]))) return;
  const element = document.getElementById(figure.name);
  const reading = element.querySelector(".reading");
  reading.textContent = shownSentence(figure, reading.textContent);
  views.get(figure.name).view.description(described(element, reading));
}

async function draw(figure, again = false) {
  const now = state();
  const [spec, renderer] = specification(figure, now, colour("--ink"));
  views.get(figure.name)?.finalize();
  const result = await vegaEmbed(`#chart-${figure.name}`, spec, {
    actions: false,
    ast: true, // expressions are interpreted, so the page needs no right to make code of text
    config: theme(spec, roomForLegends(spec, document.getElementById(figure.name).clientWidth)),
    renderer,
    logLevel: 1, // errors: that a filter leaves a chart empty is said below it
    tooltip: reads(figure)
      ? () => {} // the page's own reader tells what is near
      : { theme: document.documentElement.dataset.theme === "dark" ? "dark" : "light" },
  });
  views.set(figure.name, result);
  if (misnames(figure, spec) && !again) return draw(figure, true);
  // The chart is described as a whole; its thousands of marks have no names.
  result.view.container().querySelector("svg")?.setAttribute("aria-hidden", "true");
  if (Object.keys(figure.picks).length) {
    result.view.addEventListener("click", (_, item) => {
      const columns = Object.keys(figure.picks);
      if (!item?.datum || !columns.every((column) => column in item.datum)) return;
      choose(Object.fromEntries(columns.map((column) => [figure.picks[column], item.datum[column]])));
    });
  }
  showEmptiness(figure);
  attachReader(figure);
  tellShown(figure, now);
}

async function update(figure, now) {
  const { view } = views.get(figure.name);
  const parameters = new Set((figure.spec.params ?? []).map((parameter) => parameter.name));
  for (const [name, value] of Object.entries(now)) if (parameters.has(name)) view.signal(name, value);
  const data = Object.fromEntries(Object.entries(figure.provided).map(([name, cut]) => [name, cuts[cut](now)]));
  for (const [name, found] of Object.entries(data)) view.data(name, found);
  view.description(caption(figure, now, data));
  await view.runAsync();
  if (misnames(figure, views.get(figure.name).spec)) return draw(figure, true);
  showEmptiness(figure);
  tellShown(figure, now);
  silence();
}

// One piece of work after the other; a slider that moves on leaves older places out.
let work = Promise.resolve();
let latest = 0;
let applied = {};

function differences(now, before) {
  return Object.keys(now).filter((name) => JSON.stringify(now[name]) !== JSON.stringify(before[name]));
}

// The controls on which a chart's marks or its sentence depend.
function controlling(figure) {
  return new Set([
    ...(figure.spec.params ?? []).map((parameter) => parameter.name),
    ...(figure.captions?.controls ?? []),
    ...Object.values(figure.provided).flatMap((cut) => CUT_BY[cut]),
  ]);
}

function changed(moving = false) {
  bound();
  remember(moving);
  redraw();
}

function redraw() {
  const turn = ++latest;
  work = work.then(async () => {
    if (turn !== latest) return; // a later choice is waiting, and will be told apart from the last drawn
    const now = state();
    const names = differences(now, applied);
    applied = now;
    for (const figure of payload.figures) {
      if (names.some((name) => name in figure.patches)) await draw(figure);
      else if (names.some((name) => figure.controlling.has(name))) await update(figure, now);
    }
  });
}

async function drawAll() {
  applied = state();
  for (const figure of payload.figures) {
    figure.controlling ??= controlling(figure);
    await draw(figure);
    document.body.dataset.first ??= String(Math.round(performance.now()));
    // The page breathes between charts; a browser that prints waits for no timer.
    if (!("printing" in document.documentElement.dataset)) await new Promise((next) => setTimeout(next));
  }
  document.body.dataset.drawn = "yes";
}

function tally(box) {
  const own = [...box.closest(".group").querySelectorAll("[data-list]")];
  const all = box.closest(".group").querySelector("[data-all]");
  if (!all) return;
  all.checked = own.every((seed) => seed.checked);
  all.indeterminate = !all.checked && own.some((seed) => seed.checked);
}

// Controls may stand anywhere on the page; they all belong to its one form.
document.addEventListener("change", ({ target }) => {
  if (!target.form || target.form !== controls) return;
  if ("all" in target.dataset) {
    for (const seed of target.closest(".group").querySelectorAll("[data-list]")) seed.checked = target.checked;
    changed();
  } else if (target.type !== "range") {
    if (target.closest(".group")) tally(target);
    changed();
  }
});
document.addEventListener("input", ({ target }) => {
  if (target.form && target.form === controls && target.type === "range") changed(true);
});

// ---- play -----------------------------------------------------------------------------------

const EACH_FRAME = 450; // milliseconds

for (const button of document.querySelectorAll("[data-plays]")) {
  const slider = controls.elements[button.dataset.plays];
  let running = null;
  const stop = () => {
    clearInterval(running);
    running = null;
    button.textContent = "▶ play";
  };
  const advance = () => {
    slider.value = Number(slider.value) + 1;
    if (Number(slider.value) >= Number(slider.max)) stop();
    changed(true);
  };
  button.addEventListener("click", () => {
    if (running !== null) return stop();
    if (Number(slider.value) >= Number(slider.max)) slider.value = 0;
    changed(true);
    running = setInterval(advance, EACH_FRAME);
    button.textContent = "❚❚ pause";
  });
  slider.addEventListener("pointerdown", stop);
  slider.addEventListener("keydown", stop);
}

controls?.addEventListener("submit", (event) => event.preventDefault());
let drawnTheme = document.documentElement.dataset.theme;
document.addEventListener("themechange", () => {
  if (document.documentElement.dataset.theme === drawnTheme) return;
  drawnTheme = document.documentElement.dataset.theme;
  work = work.then(drawAll);
});

// A chart that was drawn while it was folded may have had no width.
for (const fold of document.querySelectorAll("details.folded")) fold.addEventListener("toggle", () => {
  const own = payload.figures.filter(({ name }) => fold.open && fold.contains(document.getElementById(name)));
  for (const figure of own) work = work.then(() => draw(figure));
});

bound();
begin();
work = work.then(drawAll);
window.report = { marks, views, plotted, settled: () => work };
