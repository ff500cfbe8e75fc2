// Legends name what is drawn, and stand in the room that there is.
"use strict";

const LETTER = 6.6; // pixels of a legend's letter, in the mean

// On a phone names of rows and legends get less room, and other places to stand.
function fit(spec, width) {
  if (width >= NARROW) return;
  for (const encoding of encodings(spec)) {
    const axis = encoding.y?.axis;
    if (axis?.labelLimit > 150) {
      axis.labelLimit = 150;
      // Names that go on in a second line do so sooner: marks.rows_axis.
      if (axis.labelExpr) axis.labelExpr = axis.labelExpr.replace(/\{1,\d+\}/, "{1,25}");
    }
    const beside = axis?.labelLimit ? 160 : 70; // what stands on the left of a legend
    for (const { legend, scale } of legends(encoding)) {
      const names = legend.values ?? scale?.domain;
      const entry = Array.isArray(names) ? LETTER * Math.max(...names.map((name) => String(name).length)) + 30 : width;
      legend.columns = Math.max(1, Math.floor((width - beside) / entry));
    }
  }
}

// The encodings of a layer that have a legend of names.
const legends = (encoding) =>
  ["color", "shape", "strokeDash", "fill"].map((channel) => encoding[channel]).filter((one) => one?.legend && one.type !== "quantitative");

// Of each field that a legend names, the values that some mark has.
function drawnNames(figure, spec) {
  const found = {};
  const items = marks(figure.name).map(({ item }) => item.datum ?? {});
  for (const { field, scale } of encodings(spec).flatMap(legends)) {
    if (!field || !Array.isArray(scale?.domain) || field in found) continue;
    const there = new Set(items.map((datum) => datum[field]));
    const drawn = scale.domain.filter((value) => there.has(value));
    if (drawn.length) found[field] = drawn;
  }
  return found;
}

// Whether a legend names what no mark has, or leaves out what one has. A legend whose entries
// change while it stands is laid out with the old ones' widths: it is drawn anew.
function misnames(figure, spec) {
  const drawn = drawnNames(figure, spec);
  const wrong = encodings(spec).flatMap(legends).some(({ field, legend, scale }) => {
    const named = legend.values ?? scale?.domain;
    return drawn[field] && Array.isArray(named) && (named.length !== drawn[field].length || !drawn[field].every((name) => named.includes(name)));
  });
  figure.named = { ...figure.named, ...drawn };
  return wrong;
}

// Leaves the legends of a specification what was drawn when it was drawn last.
function nameDrawn(figure, spec) {
  for (const { field, legend, scale } of encodings(spec).flatMap(legends)) {
    const named = figure.named?.[field]?.filter((name) => scale?.domain?.includes?.(name));
    if (!named?.length) continue;
    const first = (legend.values ?? []).filter((name) => named.includes(name));
    legend.values = [...first, ...named.filter((name) => !first.includes(name))];
  }
}
