// Run inside a page: everything that a reader with a screen reader or weak sight would miss.
const found = [];
const shown = (e) => e.checkVisibility({visibilityProperty: true, opacityProperty: true});
const name = (e) => (e.getAttribute("aria-label") || e.title || e.textContent || "").trim();
if (!document.documentElement.lang) found.push("no language");
if (!document.title.trim()) found.push("no title");
for (const part of ["header", "nav", "main", "footer"])
  if (document.querySelectorAll(part).length !== 1) found.push(`not one ${part}`);
const levels = [...document.querySelectorAll("h1, h2, h3, h4")].filter(shown).map((h) => Number(h.tagName[1]));
if (levels.filter((level) => level === 1).length !== 1) found.push("not one h1");
levels.forEach((level, i) => { if (i && level > levels[i - 1] + 1 && level > 3) found.push(`h${level} after h${levels[i - 1]}`); });
for (const e of document.querySelectorAll("a[href], button, summary, [role=img], [role=region], [role=graphics-document]"))
  if (shown(e) && !name(e)) found.push(`${e.tagName} without a name: ${e.outerHTML.slice(0, 80)}`);
for (const e of document.querySelectorAll("input, select"))
  if (shown(e) && !e.ariaLabel && ![...e.labels].some((l) => l.textContent.trim())) found.push(`${e.name} without a label`);
const ids = [...document.querySelectorAll("[id]")].map((e) => e.id);
for (const id of new Set(ids.filter((id, i) => ids.indexOf(id) !== i))) found.push(`two are ${id}`);
const operable = "a[href], button, input, select, summary, [tabindex]";
for (const e of document.querySelectorAll("body *")) {
  const {overflowX, overflowY} = getComputedStyle(e);
  const cut = (e.scrollWidth > e.clientWidth + 1 && /auto|scroll/.test(overflowX)) || (e.scrollHeight > e.clientHeight + 1 && /auto|scroll/.test(overflowY));
  if (shown(e) && cut && e.tabIndex < 0 && !e.querySelector(operable)) found.push(`${e.tagName} scrolls and no key reaches it`);
}
const channel = (c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
const numbers = (color) => color.match(/[\d.]+/g).map(Number);
const light = (color) => {
  const [r, g, b] = numbers(color).map((c) => channel(c / 255));
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
};
const behind = (e) => {
  for (let node = e; node; node = node.parentElement) {
    const color = getComputedStyle(node).backgroundColor;
    if (numbers(color)[3] !== 0) return color;
  }
  return "rgb(255, 255, 255)";
};
const low = new Map();
for (const e of document.querySelectorAll("body *")) {
  const inside = e.closest("svg");
  const own = inside ? e.tagName === "text" : [...e.childNodes].some((n) => n.nodeType === 3 && n.data.trim());
  if (!own || e.tagName === "OPTION" || e.tagName === "SCRIPT" || !shown(e) || e.closest(".bare")) continue;
  const style = getComputedStyle(e);
  const ink = inside ? style.fill : style.color;
  if (!/^rgb/.test(ink) || numbers(ink)[3] === 0) continue;
  const [one, other] = [light(ink), light(behind(inside ? inside.parentElement : e))];
  const ratio = (Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05);
  const large = parseFloat(style.fontSize) >= 24 || (parseFloat(style.fontSize) >= 18.66 && style.fontWeight >= 700);
  if (ratio < (large ? 3 : 4.5)) low.set(`${ink} on ${behind(inside ? inside.parentElement : e)}`, `${ratio.toFixed(2)}: ${e.textContent.trim().slice(0, 40)}`);
}
return [...found, ...[...low].map(([colors, what]) => `${colors} ${what}`)];
