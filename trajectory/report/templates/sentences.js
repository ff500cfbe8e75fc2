// What a chart of the page's cube shows, in words.
"use strict";

// A number as all sentences of the report round it. The cube's steps are too coarse for two
// significant digits of what is below 0.1.
function rounded(value, coarse = false) {
  if (value === null || value === undefined) return "—";
  const size = Math.abs(value);
  const small = size > 0 && size < 0.1 && !coarse;
  const most = size >= 99.95 ? 0 : size >= 9.995 ? 1 : 2;
  let text = size.toLocaleString("en", { minimumFractionDigits: most, maximumFractionDigits: most });
  if (small || size >= 1e5) text = size.toPrecision(2);
  return value < 0 && Number(text) !== 0 ? `−${text}` : text;
}

// One of the cube.
const near = (value) => rounded(value, true);

// A model's name of several words inside a sentence.
const quoted = (name) => (name.includes(",") ? `“${name}”` : name);

const counted = (count) => count.toLocaleString("en");

const listed = (parts) =>
  parts.length > 1 ? `${parts.slice(0, -1).join(", ")} and ${parts.at(-1)}` : parts.join("");

// "0, 2–5 and 7" of ascending whole numbers
function runs(numbers) {
  const found = [];
  for (const number of numbers) {
    if (found.length && number === found.at(-1).at(-1) + 1) found.at(-1).push(number);
    else found.push([number]);
  }
  return listed(found.map((part) => (part.length === 1 ? `${part[0]}` : `${part[0]}–${part.at(-1)}`)));
}

function median(values) {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
}

// A single checkpoint may state no step.
const atStep = (step) => (step === null ? "its one checkpoint" : `step ${counted(step)}`);

const ordinal = (n) =>
  `${n}${n % 100 > 10 && n % 100 < 14 ? "th" : ({ 1: "st", 2: "nd", 3: "rd" })[n % 10] ?? "th"}`;

const head = (row) => `L${row.layer}H${row.head}`;

// The first of those with the greatest value, and of those with the least.
function ends(rows, value) {
  return rows.reduce(
    ([least, most], row) => [value(row) < value(least) ? row : least, value(row) > value(most) ? row : most],
    [rows[0], rows[0]],
  );
}

// Each takes the rows that its chart draws, the page's choices, the statistic's name, and the rows
// of the same heads by their sink excess.
const sentences = {
  map(rows, now, name, excess) {
    if (!rows.length) return `No head of ${quoted(now.chosen_trajectory)} has a ${name} here.`;
    const threshold = payload.facts.sink_threshold;
    const sinks = excess().filter((row) => row.value >= threshold);
    const layers = [...new Set(sinks.map((row) => row.layer))].sort((a, b) => a - b);
    const [least, most] = ends(rows, (row) => row.value);
    const where = sinks.length ? `, in layer${layers.length > 1 ? "s" : ""} ${runs(layers)}` : "";
    return (
      `At ${atStep(rows[0].step)}, ${counted(sinks.length)} of ${counted(rows.length)} ${rows.length === 1 ? "head" : "heads"} of ` +
      `${quoted(now.chosen_trajectory)} on ${now.chosen_domain} ${[sinks.length, rows.length].includes(1) ? "is a sink" : "are sinks"} ` +
      `(excess ≥ ${threshold})${where}; ${name} runs from ${near(least.value)} (${head(least)}) to ` +
      `${near(most.value)} (${head(most)}), median ${near(median(rows.map((row) => row.value)))}.`
    );
  },
  head(rows, now, name) {
    const domains = [...new Set(rows.map((row) => row.domain))];
    const told = domains.map((domain) => {
      const own = rows.filter((row) => row.domain === domain && row.value !== null);
      return own.length
        ? `${near(own.at(-1).value)} on ${domain} (${near(own[0].value)} at ${atStep(own[0].step)})`
        : `no value on ${domain}`;
    });
    return `The ${name} of L${now.chosen_layer}H${now.chosen_head} ends at ${listed(told)}.`;
  },
  layer(rows, now, name) {
    const last = rows.reduce((found, row) => Math.max(found, row.step), 0);
    const ending = rows.filter((row) => (row.step ?? 0) === last && row.value !== null);
    const own = ending.find((row) => row.picked);
    if (!own) return `At the last checkpoint the chosen head has no ${name}.`;
    const place = 1 + ending.filter((row) => row.value > own.value).length;
    return (
      `Of ${ending.length} ${ending.length === 1 ? "head" : "heads"} on ${now.chosen_domain}, head ` +
      `${now.chosen_head} ends with the ${place === 1 ? "" : `${ordinal(place)} `}greatest ${name}: ` +
      `${near(own.value)}, median ${near(median(ending.map((row) => row.value)))}.`
    );
  },
  pair(rows, now) {
    const [one, other] = [now.chosen_domain, now.other_domain];
    if (!rows.length) return `No head of ${quoted(now.chosen_trajectory)} was measured on both domains here.`;
    const threshold = payload.facts.sink_threshold;
    const least = Math.log(threshold / (1 - threshold));
    const sinking = rows.filter((row) => Math.max(row.first, row.second) >= least);
    const begin =
      `At ${atStep(rows[0].step)}, ${counted(sinking.length)} of ${counted(rows.length)} ${rows.length === 1 ? "head" : "heads"} of ` +
      `${quoted(now.chosen_trajectory)} ${[sinking.length, rows.length].includes(1) ? "has" : "have"} a sink on ${one} or ${other} (log-odds ≥ ${near(least)} nats)`;
    if (!sinking.length) return `${begin}.`;
    const [, most] = ends(sinking, (row) => Math.abs(row.first - row.second));
    const more = sinking.filter((row) => row.first > row.second).length;
    return (
      `${begin}; ${head(most)} differs most: ${near(most.first)} nats on ${one}, ` +
      `${near(most.second)} on ${other}; ${counted(more)} ${more === 1 ? "is" : "are"} more dormant on ` +
      `${one} than on ${other}.`
    );
  },
};

// Why a chart is empty: a layer or head that no run shown has, or all that there is is hidden.
function nothing(figure, now) {
  const own = (figure.spec.params ?? []).map(({ name }) => name);
  const places = ["layer", "head"].filter((place) => own.includes(`chosen_${place}`) && Number.isFinite(now[`chosen_${place}`]));
  const told = places.map((place) => `${place} ${now[`chosen_${place}`]}`).join(", ");
  return told ? `Nothing was measured in ${told} of what is shown.` : "Nothing to show with these choices.";
}

// What is left of a chart of which the page's list hides a part: of lines where they end, in the
// mean of the runs of a group; of anything else how many marks, and what was said of all.
function shownSentence(figure, whole) {
  if (reads(figure) !== "lines") {
    const count = marks(figure.name).length;
    return `${counted(count)} ${count === 1 ? "mark is" : "marks are"} left of what this tells of: ${whole}`;
  }
  const ends = new Map();
  for (const own of grouped(figure, plotted(figure)).values()) {
    const last = own.reduce((best, one) => (one.x > best.x ? one : best));
    const { datum } = last;
    const name = [quoted(datum.label ?? datum.group ?? datum.trajectory ?? ""), datum.domain].filter(Boolean).join(" on ");
    const value = datum[fieldsOf(figure, datum)[1]];
    if (!ends.has(name)) ends.set(name, []);
    ends.get(name).push(value);
  }
  if (!ends.size) return nothing(figure, state());
  const told = [...ends].map(([name, values]) => {
    const mean = values.reduce((sum, value) => sum + value, 0) / values.length;
    return `${rounded(mean)} (${name}${values.length > 1 ? `, mean of ${values.length} lines` : ""})`;
  });
  const few = told.length > 8 ? [...told.slice(0, 8), `${told.length - 8} more`] : told;
  return `Where the lines shown end, ${titles(figure)[1]} is ${listed(few)}.`;
}
