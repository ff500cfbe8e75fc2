// The page's choices in its address, so that back, reload and a pasted link restore them; and the
// charts as they stand, as files.
"use strict";

// ---- choices as text -------------------------------------------------------------------------

const inputs = (name) => [...controls.elements].filter((input) => input.name === name);

// What people call a model, and its name in the config, which addresses and files keep.
const configured = (text) => (typeof text === "string" ? payload.called[text] ?? text : text);
const human = (name) => Object.entries(payload.called).find(([, own]) => own === name)?.[0] ?? name;

const options = (name) => inputs(name).map((input) => input.value);

// A list is told by its shorter side: what is chosen, or after "!" what is not.
function written(name, value) {
  if (!Array.isArray(value)) return encodeURIComponent(configured(String(value)));
  const hidden = options(name).filter((option) => !value.includes(option));
  const told = (parts) => parts.map((part) => encodeURIComponent(configured(part))).join(",");
  return hidden.length <= value.length ? `!${told(hidden)}` : told(value);
}

function read(name, text, usual) {
  if (!Array.isArray(usual)) return human(decodeURIComponent(text));
  const parts = (rest) => (rest ? rest.split(",").map((part) => human(decodeURIComponent(part))) : []);
  if (!text.startsWith("!")) return parts(text);
  const hidden = parts(text.slice(1));
  return options(name).filter((option) => !hidden.includes(option));
}

let usual = {};

// "#sink?chosen_axis=tokens": the chart that is pointed at, and what differs from the first choices.
function address(anchor, now = state()) {
  const told = differences(now, usual).map((name) => `${name}=${written(name, now[name])}`);
  return `#${anchor}${told.length ? `?${told.join("&")}` : ""}`;
}

function parsed(hash) {
  const [anchor, ...rest] = hash.replace(/^#/, "").split("?");
  const found = {};
  for (const part of rest.join("?").split("&")) {
    const [name, text] = part.split("=");
    if (name in usual && text !== undefined) found[name] = read(name, text, usual[name]);
  }
  return { anchor: decodeURIComponent(anchor), found };
}

function put(values) {
  for (const input of controls.elements) {
    if (!(input.name in values)) continue;
    const value = values[input.name];
    if (input.type === "radio") input.checked = input.value === String(value);
    else if ("list" in input.dataset) input.checked = value.includes(input.value);
    else if (input.type === "checkbox") input.checked = value === true || value === "true";
    else input.value = value;
    if (input.closest(".group")) tally(input);
  }
}

// Choices bound each other, such as a run its checkpoints: what is bounded is put again.
function restore() {
  const { anchor, found } = parsed(location.hash);
  if (controls) {
    for (let i = 0; i < 2; i++) {
      put({ ...usual, ...found });
      bound();
    }
  }
  if (anchor) document.getElementById(anchor)?.scrollIntoView();
}

// What an address leads to stands below the choices, where these stay in sight.
const above = document.getElementById("choices");
const keepInSight = () => {
  const stays = getComputedStyle(above).position === "sticky";
  document.documentElement.style.setProperty("--above", `${stays ? above.offsetHeight : 0}px`);
};
if (above) {
  keepInSight();
  new ResizeObserver(keepInSight).observe(above);
}

let lastAddress = null;
let waiting = null;

// A slider that moves leaves one entry in the history, not one for every place.
function remember(moving) {
  if (!controls) return;
  const next = address(parsed(location.hash).anchor);
  if (next === (location.hash || "#")) return;
  clearTimeout(waiting);
  const write = () => {
    history[moving ? "replaceState" : "pushState"](null, "", next);
    lastAddress = location.hash;
  };
  if (moving) waiting = setTimeout(write, 300);
  else write();
}

function follow() {
  if (location.hash === lastAddress) return;
  lastAddress = location.hash;
  restore();
  redraw();
}

function begin() {
  if (controls) usual = state();
  lastAddress = location.hash;
  restore();
  window.addEventListener("popstate", follow);
  window.addEventListener("hashchange", follow);
}

document.addEventListener("click", (event) => {
  const link = event.target.closest("a.anchor");
  if (!link) return;
  event.preventDefault();
  history.pushState(null, "", controls ? address(link.hash.slice(1)) : link.hash);
  lastAddress = location.hash;
  const said = (text) => {
    link.dataset.said = text;
    setTimeout(() => delete link.dataset.said, 1500);
  };
  const copied = navigator.clipboard?.writeText(location.href);
  if (copied) copied.then(() => said("link copied"), () => said("see the address"));
  else said("see the address");
});

// ---- files ------------------------------------------------------------------------------------

// Legends that the page shows beside its charts, of what a chart draws.
function showLegends(node, drawn) {
  if (Array.isArray(node)) node.forEach((part) => showLegends(part, drawn));
  else if (node && typeof node === "object") {
    for (const channel of ["color", "strokeDash"]) {
      const encoding = node[channel];
      if (encoding?.legend !== null || !encoding.scale?.domain) continue;
      const own = encoding.scale.domain.filter((name) => drawn[encoding.field]?.has(name));
      const looks = own.map((name) => encoding.scale.range[encoding.scale.domain.indexOf(name)]);
      encoding.scale = { ...encoding.scale, domain: own, range: looks };
      if (channel === "strokeDash" && new Set(looks.map(String)).size < 2) continue;
      encoding.legend = { title: null, orient: "bottom", columns: 3, values: own, symbolOpacity: 1, labelLimit: 320 };
      if (channel === "strokeDash") Object.assign(encoding.legend, { symbolType: "stroke", symbolSize: 400 });
    }
    Object.values(node).forEach((part) => showLegends(part, drawn));
  }
}

const drawnRows = (figure) => [...new Set(marks(figure.name).map(({ item }) => item.datum).filter(Boolean))];

// The chart as it stands, in light colours and with its legend.
async function picture(figure, kind) {
  const now = state();
  const [spec] = specification(figure, now);
  tellShown(figure, now);
  const told = document.getElementById(figure.name);
  spec.description = described(told, told.querySelector(".reading"));
  const drawn = {};
  for (const name of ["group", "domain"]) drawn[name] = new Set(drawnRows(figure).map((row) => row[name]));
  showLegends(spec, drawn);
  const box = document.createElement("div");
  box.className = "offscreen";
  box.style.width = `${document.getElementById(`chart-${figure.name}`).clientWidth}px`;
  document.body.append(box);
  try {
    const config = { ...theme(spec, box.clientWidth, LIGHT), background: "white" };
    const result = await vegaEmbed(box, spec, { actions: false, ast: true, config, renderer: "svg", logLevel: 1 });
    const blob = kind === "svg"
      ? new Blob([await result.view.toSVG()], { type: "image/svg+xml" })
      : await new Promise((done) => { result.view.toCanvas(2).then((canvas) => canvas.toBlob(done)); });
    result.finalize();
    return blob;
  } finally {
    box.remove();
  }
}

function table(figure) {
  const rows = drawnRows(figure);
  const columns = [...new Set(rows.flatMap((row) => Object.keys(row)))];
  const cell = (value) => {
    const text = value === null || value === undefined ? "" : String(value);
    return /[",\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  };
  const lines = [columns, ...rows.map((row) => columns.map((column) => configured(row[column])))];
  return new Blob([lines.map((line) => line.map(cell).join(",")).join("\n") + "\n"], { type: "text/csv" });
}

async function file(figure, kind) {
  const blob = kind === "csv" ? table(figure) : await picture(figure, kind);
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = `${document.body.dataset.page}-${figure.name}.${kind}`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}

document.addEventListener("click", (event) => {
  const link = event.target.closest("a[data-kind]");
  const figure = link && payload.figures.find(({ name }) => name === link.closest("figure").id);
  if (!figure || !views.has(figure.name)) return; // a file of the page stands in
  event.preventDefault();
  work = work.then(() => file(figure, link.dataset.kind));
});
