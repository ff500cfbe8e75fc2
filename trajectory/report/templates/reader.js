// Points at the nearest place of a chart and reads what is drawn there: of lines all values at one
// x, on every chart of the same board; of points, bars and cells the nearest one.
"use strict";

const LISTED = 14; // lines that are told

const SVG = "http://www.w3.org/2000/svg";

// The marks of a specification with what they draw; lines of reference hold data of their own.
function layers(node, sources, data, found = []) {
  const own = node.data?.name ?? (node.data ? null : data);
  if (node.mark && sources.includes(own)) found.push({ type: node.mark.type ?? node.mark, encoding: node.encoding ?? {} });
  for (const layer of node.layer ?? []) layers(layer, sources, own, found);
  return found;
}

const isNumber = (channel) => channel?.field && channel.type === "quantitative";

const OF_TYPE = { point: "symbol", circle: "symbol", tick: "rect", bar: "rect", rect: "rect" };

// How a chart is read: as "lines", areas too; as "points", bars and cells too; or not at all.
function reads(figure) {
  if (figure.reads !== undefined) return figure.reads;
  const own = layers(figure.spec, figure.sources).filter(({ encoding }) => encoding.x && encoding.y);
  const drawn = own.filter(({ type, encoding }) => type === "line" && isNumber(encoding.x) && isNumber(encoding.y) && !encoding.order);
  const points = own.filter(({ type }) => type === "point" || type === "circle" || type === "tick");
  const cells = own.filter(({ type }) => type === "bar" || type === "rect");
  const areas = own.filter(({ type, encoding }) => type === "area" && isNumber(encoding.x) && isNumber(encoding.y));
  figure.areas = !drawn.length && !points.length && areas.length > 0;
  figure.reads = drawn.length || figure.areas ? "lines" : points.length || cells.length ? "points" : null;
  const marked = points.length ? points : figure.reads === "points" ? cells : figure.areas ? areas : drawn;
  figure.read = new Set(marked.map(({ type }) => OF_TYPE[type] ?? type));
  const told = marked;
  figure.fields = told.map(({ encoding }) => [encoding.x.field, encoding.y.field]);
  return figure.reads;
}

// The marks that are read, with their places in the chart's box.
function plotted(figure) {
  const { view } = views.get(figure.name);
  const [left, top] = view.origin();
  const found = [];
  const walk = (node, x, y) => {
    for (const item of node.items ?? []) {
      if (node.marktype === "group" || item.items) {
        const isGroup = node.marktype === "group" && item.items;
        walk(item, x + (isGroup ? item.x ?? 0 : 0), y + (isGroup ? item.y ?? 0 : 0));
      } else if (node.role === "mark" && item.datum && !item.datum.meaning) {
        if (figure.read.has(node.marktype) && item.opacity !== 0) found.push({ x: x + item.x, y: y + item.y, item, datum: item.datum });
      }
    }
  };
  walk(view.scenegraph().root, left, top);
  return found;
}

const paint = ({ item }) => (item.fill && item.fill !== "transparent" ? item.fill : item.stroke);

// What a line is called: the model, and what tells its lines apart.
function lineName(datum, figure) {
  if (figure.areas) return { none: "no role" }[datum.role] ?? datum.role ?? datum.kind ?? "all";
  if (datum.label !== undefined) return datum.label;
  const parts = [datum.trajectory ?? datum.group, datum.domain, datum.intervention, datum.statistic, datum.regime, datum.token];
  for (const place of ["layer", "head"]) if (datum[place] !== undefined) parts.push(`${place} ${datum[place]}`);
  return parts.filter((part) => part !== undefined && part !== null && part !== "").join(", ");
}

const fieldsOf = (figure, datum) =>
  figure.fields.find(([x, y]) => Number.isFinite(datum[x]) && Number.isFinite(datum[y]));

function tell(number) {
  if (!Number.isFinite(number)) return String(number ?? "—");
  const size = Math.abs(number);
  if (size !== 0 && (size < 1e-3 || size >= 1e6)) return number.toPrecision(3);
  return size >= 100 ? Math.round(number).toLocaleString("en") : String(Number(number.toPrecision(3)));
}

function titles(figure) {
  const { spec } = views.get(figure.name);
  const own = layers(spec, figure.sources).find(({ encoding }) => figure.fields.some(([x, y]) => encoding.x?.field === x && encoding.y?.field === y));
  const told = (channel) => [own?.encoding[channel]?.title ?? own?.encoding[channel]?.field].flat().join(" ");
  return [told("x"), told("y")];
}

// ---- what is shown ---------------------------------------------------------------------------

function element(tag, attributes, parent) {
  const made = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  parent.append(made);
  return made;
}

function overlay(name) {
  const stage = document.getElementById(`chart-${name}`);
  let cover = stage.parentElement.querySelector(`:scope > .cover[data-of="${name}"]`);
  if (!cover) {
    cover = document.createElementNS(SVG, "svg");
    cover.setAttribute("class", "cover");
    cover.setAttribute("aria-hidden", "true");
    cover.dataset.of = name;
    const box = document.createElement("div");
    box.className = "readout";
    box.dataset.of = name;
    box.setAttribute("aria-hidden", "true");
    stage.after(cover, box);
  }
  const box = stage.parentElement.querySelector(`:scope > .readout[data-of="${name}"]`);
  cover.replaceChildren();
  box.replaceChildren();
  cover.setAttribute("width", stage.clientWidth);
  cover.setAttribute("height", stage.clientHeight);
  cover.style.left = box.style.left = `${stage.offsetLeft}px`;
  cover.style.top = box.style.top = `${stage.offsetTop}px`;
  return { stage, cover, box };
}

function silence(name) {
  for (const part of document.querySelectorAll(name ? `[data-of="${name}"]` : "[data-of]")) part.replaceChildren();
}

function line(box, text, css, colour) {
  const row = document.createElement("div");
  if (css) row.className = css;
  if (colour) {
    const swatch = document.createElement("span");
    swatch.className = "swatch";
    swatch.style.background = colour;
    row.append(swatch);
  }
  row.append(text);
  box.append(row);
}

function place(box, stage, x, y) {
  const width = box.offsetWidth;
  const right = x + 14 + width > stage.clientWidth;
  const left = right ? Math.max(0, x - 14 - width) : x + 14;
  box.style.left = `${stage.offsetLeft + left}px`;
  box.style.top = `${stage.offsetTop + Math.max(0, Math.min(y - 20, stage.clientHeight - box.offsetHeight))}px`;
}

function grouped(figure, items) {
  const found = new Map();
  for (const one of items) {
    if (!fieldsOf(figure, one.datum)) continue;
    const key = `${lineName(one.datum, figure)}\n${paint(one)}`;
    if (!found.has(key)) found.set(key, []);
    found.get(key).push(one);
  }
  return found;
}

// Of lines that ended before x, which stand below two titles, that this is their last and where.
function tellEnded(figure, box, rows, x) {
  rows.slice(0, LISTED).forEach(({ own, at }, i) => {
    const [across] = fieldsOf(figure, at.datum);
    if (own.every((one) => one.x < x - 3)) box.children[i + 2].append(` (its last, at ${tell(at.datum[across])})`);
  });
}

// All lines at the place nearest to x; y, if any, says which is pointed at.
function readLines(figure, x, y) {
  const items = plotted(figure).filter((one) => fieldsOf(figure, one.datum));
  if (!items.length) return null;
  const nearest = items.reduce((best, one) => (Math.abs(one.x - x) < Math.abs(best.x - x) ? one : best));
  const { stage, cover, box } = overlay(figure.name);
  const rows = [...grouped(figure, items)].map(([key, own]) => {
    const at = own.reduce((best, one) => (Math.abs(one.x - nearest.x) < Math.abs(best.x - nearest.x) ? one : best));
    return { key, own, at };
  }).filter(({ own, at }) => Math.abs(at.x - nearest.x) < 24 || (own.some((one) => one.x < nearest.x) && own.some((one) => one.x > nearest.x)));
  rows.sort((one, other) => one.at.y - other.at.y);
  const pointed = y === undefined ? null
    : rows.reduce((best, row) => (Math.abs(row.at.y - y) < Math.abs(best.at.y - y) ? row : best));
  element("line", { x1: nearest.x, x2: nearest.x, y1: 0, y2: stage.clientHeight, class: "rule" }, cover);
  if (pointed) {
    const path = [...pointed.own].sort((one, other) => one.x - other.x).map((one) => `${one.x},${one.y}`).join(" ");
    element("polyline", { points: path, class: "pointed", stroke: paint(pointed.at) }, cover);
  }
  for (const { at } of rows) element("circle", { cx: at.x, cy: at.y, r: 4, fill: paint(at) }, cover);
  const [across, along] = titles(figure);
  const [field] = fieldsOf(figure, nearest.datum);
  line(box, `${across}: ${tell(nearest.datum[field])}`, "at");
  line(box, along, "of");
  for (const row of rows.slice(0, LISTED)) {
    const [, value] = fieldsOf(figure, row.at.datum);
    line(box, `${lineName(row.at.datum, figure)}: ${tell(row.at.datum[value])}`, row === pointed ? "pointed" : "", paint(row.at));
  }
  if (rows.length > LISTED) line(box, `and ${rows.length - LISTED} more lines`, "of");
  tellEnded(figure, box, rows, nearest.x);
  place(box, stage, nearest.x, y ?? 30);
  return nearest.datum[field];
}

// How far a mark is: 0 inside a bar or a cell.
function away({ x, y, item }, across, up) {
  const beyond = (from, size, at) => Math.max(from - at, 0, at - from - (size ?? 0));
  return item.width === undefined ? Math.hypot(x - across, y - up)
    : Math.hypot(beyond(x, item.width, across), beyond(y, item.height, up));
}

// The nearest point, bar or cell, and all that its tooltip tells.
function readPoint(figure, x, y) {
  const items = plotted(figure);
  const far = (one) => away(one, x, y);
  const nearest = items.length ? items.reduce((best, one) => (far(one) < far(best) ? one : best)) : null;
  if (!nearest) return silence(figure.name);
  const { stage, cover, box } = overlay(figure.name);
  const { width, height } = nearest.item;
  if (width === undefined) element("circle", { cx: nearest.x, cy: nearest.y, r: 9, class: "ring" }, cover);
  else element("rect", { x: nearest.x, y: nearest.y, width, height, class: "ring" }, cover);
  const told = nearest.item.tooltip;
  for (const [name, value] of Object.entries(told && typeof told === "object" ? told : {})) {
    line(box, `${name}: ${value}`);
  }
  if (!box.childElementCount) line(box, lineName(nearest.datum, figure));
  place(box, stage, width === undefined ? nearest.x : x, width === undefined ? nearest.y : y);
}

function readAt(figure, x, y) {
  if (figure.reads === "points") return readPoint(figure, x, y);
  const value = readLines(figure, x, y);
  if (!figure.board || value === null) return;
  for (const other of payload.figures) {
    if (other === figure || other.board !== figure.board || !views.has(other.name)) continue;
    const { view } = views.get(other.name);
    readLines(other, view.origin()[0] + view.scale("x")(value));
  }
}

function attachReader(figure) {
  silence(figure.name);
  const stage = document.getElementById(`chart-${figure.name}`);
  if (!reads(figure) || stage.dataset.reads) return;
  stage.dataset.reads = figure.reads;
  const move = (event) => {
    if (!views.has(figure.name)) return;
    const drawing = stage.querySelector("svg, canvas").getBoundingClientRect();
    readAt(figure, event.clientX - drawing.left, event.clientY - drawing.top);
  };
  stage.addEventListener("pointermove", move);
  stage.addEventListener("pointerdown", move); // a finger does not hover
  stage.addEventListener("pointerleave", (event) => {
    if (event.pointerType === "touch") return;
    for (const other of payload.figures) {
      if (other === figure || (figure.board && other.board === figure.board)) silence(other.name);
    }
  });
}
