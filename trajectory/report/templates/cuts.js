// Rows of the page's data for its charts, and what charts cut out of the cube of all heads.
"use strict";

// Each chart gets rows of its own: Vega writes into them.
function rows(name, text) {
  const { rows: count, columns } = payload.data[name];
  const choosable = new Set(
    [...text.matchAll(/datum\[(\w+)\]/g)].flatMap(([, name]) => [...controls.elements[name].options].map((o) => o.value)),
  );
  const readers = Object.entries(columns)
    .filter(([column]) => choosable.has(column) || text.includes(column))
    .map(([column, values]) => [column, reader(values)]);
  return Array.from({ length: count }, (_, i) => {
    const row = {};
    for (const [column, read] of readers) row[column] = read(i);
    return row;
  });
}

// A column's value in row i, however the page writes the column.
function reader(values) {
  if (Array.isArray(values)) return (i) => values[i];
  if ("all" in values) return () => values.all;
  if ("runs" in values) return reader(values.runs.flatMap((value, k) => Array(values.lengths[k]).fill(value)));
  return (i) => (values.codes[i] === null ? null : values.texts[values.codes[i]]);
}

const EMPTY = 65535;
const decoded = new Map();

// value(domain, record, layer, head) of one statistic of one trajectory
function cubeReader(trajectory, statistic) {
  const of = payload.cube[trajectory];
  const key = `${trajectory}\n${statistic}`;
  if (!decoded.has(key)) {
    const text = atob(of.values[statistic].codes);
    const bytes = new Uint8Array(text.length);
    for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
    decoded.set(key, new Uint16Array(bytes.buffer));
  }
  const codes = decoded.get(key);
  const { low, high, log } = of.values[statistic];
  return (domain, record, layer, head) => {
    const code = codes[((domain * of.steps.length + record) * of.layers + layer) * of.heads + head];
    if (code === EMPTY) return null;
    const value = low + (code / (EMPTY - 1)) * (high - low);
    return log ? Math.exp(value) : value;
  };
}

const statistic = (now) => now.chosen_statistic ?? Object.keys(payload.cube[now.chosen_trajectory].values)[0];
const range = (n) => Array.from({ length: n }, (_, i) => i);

// What charts cut out of the cube, given the page's choices.
const cuts = {
  // every head of one trajectory at one record
  map(now, name = statistic(now)) {
    const of = payload.cube[now.chosen_trajectory];
    const read = cubeReader(now.chosen_trajectory, name);
    const domain = of.domains.indexOf(now.chosen_domain);
    return range(of.layers).flatMap((layer) => range(of.heads).map((head) => ({
      trajectory: now.chosen_trajectory, domain: now.chosen_domain,
      step: of.steps[now.chosen_record], layer, head,
      value: read(domain, now.chosen_record, layer, head),
      picked: layer === now.chosen_layer && head === now.chosen_head,
    }))).filter((row) => row.value !== null);
  },
  // one head on every domain over all records
  head(now) {
    const of = payload.cube[now.chosen_trajectory];
    const read = cubeReader(now.chosen_trajectory, statistic(now));
    return of.domains.flatMap((domain, d) => of.steps.map((step, record) => ({
      trajectory: now.chosen_trajectory, domain, step, layer: now.chosen_layer, head: now.chosen_head,
      value: read(d, record, now.chosen_layer, now.chosen_head),
    })));
  },
  // all heads of one layer on one domain over all records
  layer(now) {
    const of = payload.cube[now.chosen_trajectory];
    const read = cubeReader(now.chosen_trajectory, statistic(now));
    const domain = of.domains.indexOf(now.chosen_domain);
    return range(of.heads).flatMap((head) => of.steps.map((step, record) => ({
      trajectory: now.chosen_trajectory, domain: now.chosen_domain, step, layer: now.chosen_layer, head,
      value: read(domain, record, now.chosen_layer, head), picked: head === now.chosen_head,
    })));
  },
  // every head's statistic on two domains at one record
  pair(now) {
    const of = payload.cube[now.chosen_trajectory];
    const read = cubeReader(now.chosen_trajectory, "sink_log_odds");
    const [one, other] = [of.domains.indexOf(now.chosen_domain), of.domains.indexOf(now.other_domain)];
    return range(of.layers).flatMap((layer) => range(of.heads).map((head) => ({
      trajectory: now.chosen_trajectory, step: of.steps[now.chosen_record], layer, head,
      first: read(one, now.chosen_record, layer, head), second: read(other, now.chosen_record, layer, head),
      picked: layer === now.chosen_layer && head === now.chosen_head,
    }))).filter((row) => row.first !== null && row.second !== null);
  },
};

// The controls on which each cut depends.
const CUT_BY = {
  map: ["chosen_trajectory", "chosen_domain", "chosen_statistic", "chosen_record", "chosen_layer", "chosen_head"],
  head: ["chosen_trajectory", "chosen_statistic", "chosen_layer", "chosen_head"],
  layer: ["chosen_trajectory", "chosen_domain", "chosen_statistic", "chosen_layer", "chosen_head"],
  pair: ["chosen_trajectory", "chosen_domain", "other_domain", "chosen_record", "chosen_layer", "chosen_head"],
};
