"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const PAGE = 200;
const natural = new Intl.Collator("en", { numeric: true });
const ORDERS = {
  file: () => 0,
  name: (a, b) => natural.compare(a.n, b.n),
  bytes: (a, b) => (b.b || 0) - (a.b || 0),
  type: (a, b) => natural.compare(a.t, b.t),
};
const filter = document.getElementById("filter");
const sort = document.getElementById("sort");
const pages = data.files.map(() => 0);

function make(tag, attributes, ...children) {
  const node = document.createElement(tag);
  for (const key in attributes || {}) node.setAttribute(key, attributes[key]);
  node.append(...children);
  return node;
}
function draw(tag, attributes, ...children) {
  const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const key in attributes || {}) node.setAttribute(key, attributes[key]);
  node.append(...children);
  return node;
}
function size(n) {
  if (n === null || n === undefined) return "? B";
  for (const unit of ["B", "KiB", "MiB", "GiB", "TiB"]) {
    if (n < 1024 || unit === "TiB") return (unit === "B" ? n : n.toFixed(2)) + " " + unit;
    n /= 1024;
  }
}
function short(v) {
  if (typeof v !== "number") return String(v);
  if (Number.isSafeInteger(v)) return String(v);
  return v !== 0 && (Math.abs(v) < 1e-3 || Math.abs(v) >= 1e5) ? v.toExponential(3) : String(+v.toPrecision(5));
}
function bytes(text) {
  return Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
}

function color(scale, value) {
  const colors = scale[2] ? data.diverging : data.rising;
  const range = scale[1] / 2 - scale[0] / 2;
  const share = range > 0 ? Math.min(1, Math.max(0, (value / 2 - scale[0] / 2) / range)) : 0.5;
  const at = share * (colors.length - 1), i = Math.min(Math.floor(at), colors.length - 2);
  return colors[i].map((c, k) => Math.round(c + (at - i) * (colors[i + 1][k] - c)));
}
const MARKS = [[1, "NaN", [255, 0, 255]], [2, "infinite", [0, 160, 0]], [4, "null", [128, 128, 128]]];

function heat(array, map, ofChunks) {
  const show = ofChunks ? (n) => size(Math.round(n)) : short;
  const [rows, columns] = map.b;
  const raw = bytes(map.d), marks = map.k ? bytes(map.k) : null;
  const code = (i) => raw[2 * i] | (raw[2 * i + 1] << 8);
  const value = (i) => (code(i) === 65535 ? NaN : map.q[0] + (code(i) / 65534) * (map.q[1] - map.q[0]));
  const canvas = make("canvas", { width: columns, height: rows, role: "img" });
  const picture = canvas.getContext("2d"), image = picture.createImageData(columns, rows);
  const counts = [0, 0, 0];
  for (let i = 0; i < rows * columns; i++) {
    let c = Number.isNaN(value(i)) ? [128, 128, 128] : color(map.s, value(i));
    if (marks && marks[i])
      for (let k = 2; k >= 0; k--) if (marks[i] & MARKS[k][0]) { c = MARKS[k][2]; counts[k]++; }
    image.data.set([c[0], c[1], c[2], 255], 4 * i);
  }
  picture.putImageData(image, 0, 0);
  const wide = rows === 1 || columns / rows > 16;
  canvas.style.width = wide ? "100%" : Math.min(100, (columns / Math.max(rows, columns)) * 100) + "%";
  canvas.style.maxWidth = wide ? "100%" : "24rem";
  canvas.style.aspectRatio = wide ? "auto" : columns + " / " + rows;
  if (wide) canvas.style.height = "2rem";
  const line = (ofChunks ? "stored bytes of a chunk" : "means") + " from " + show(map.q[0]) + " to " + show(map.q[1]);
  canvas.setAttribute("aria-label", "heat map of " + array.n + ": " + line);
  const bar = make("canvas", { width: 64, height: 1, "aria-hidden": "true" });
  const ink = bar.getContext("2d"), shades = ink.createImageData(64, 1);
  for (let i = 0; i < 64; i++)
    shades.data.set([...color(map.s, map.s[0] + (i / 63) * (map.s[1] - map.s[0])), 255], 4 * i);
  ink.putImageData(shades, 0, 0);
  bar.style.width = "100%";
  bar.style.height = ".8rem";
  const said = make("p", { class: "soft" });
  const up = (n, of) => Math.ceil(n / of);
  const block = up(map.p[0], rows) > 1 || up(map.p[1], columns) > 1
    ? ", blocks of up to " + up(map.p[0], rows) + " × " + up(map.p[1], columns) : "";
  const usual = map.p[0] + " × " + map.p[1] + (ofChunks ? " chunks" : "") + block;
  said.textContent = usual;
  canvas.addEventListener("mousemove", (event) => {
    const x = Math.min(columns - 1, Math.floor((event.offsetX / canvas.clientWidth) * columns));
    const y = Math.min(rows - 1, Math.floor((event.offsetY / canvas.clientHeight) * rows));
    if (x >= 0 && y >= 0) said.textContent = "block " + y + ", " + x + ": " + show(value(y * columns + x));
  });
  canvas.addEventListener("mouseleave", () => (said.textContent = usual));
  const scale = make("div", {}, bar,
    make("p", { class: "ends" }, make("span", {}, show(map.s[0])), make("span", {}, show(map.s[1]))));
  scale.style.maxWidth = wide ? "100%" : "24rem";
  const box = make("div", {}, make("h3", {}, ofChunks ? "Stored bytes of chunks" : "Means"), canvas, scale, said);
  MARKS.forEach(([, name, c], k) => {
    if (!counts[k]) return;
    const swatch = make("span", { class: "share" });
    swatch.style.background = "rgb(" + c + ")";
    swatch.style.width = ".9em";
    box.append(make("p", {}, swatch, " " + name + " in " + counts[k] + (counts[k] === 1 ? " block" : " blocks")));
  });
  return box;
}

function histogram(array, hist) {
  const most = Math.max(...hist.c), sum = hist.c.reduce((a, b) => a + b, 0);
  const mode = hist.c.indexOf(most);
  const svg = draw("svg", { class: "hist", viewBox: "0 0 " + hist.c.length + " 100", preserveAspectRatio: "none", role: "img" });
  svg.setAttribute("aria-label", "histogram of " + array.n + " from " + hist.l[0] + " to " + hist.l[1] + ", " +
    hist.c.length + " bins; the fullest is number " + (mode + 1) + " with " + most + " of " + sum + " values");
  const log = make("input", { type: "checkbox" });
  const show = () => {
    svg.replaceChildren(...hist.c.map((n, i) => {
      const h = log.checked ? (100 * Math.log1p(n)) / Math.log1p(most) : (100 * n) / most;
      const from = short(hist.e[0] + i * hist.e[1]);
      return draw("rect", { x: i + 0.04, width: 0.92, y: 100 - h, height: h },
        draw("title", {}, (typeof hist.e[0] === "number" ? "from " + from + ": " : "") + n));
    }));
  };
  log.addEventListener("change", show);
  show();
  return make("div", {}, make("h3", {}, "Histogram"), svg,
    make("p", { class: "ends" }, make("span", {}, hist.l[0]), make("span", {}, hist.l[1])),
    make("label", { class: "inline" }, log, "logarithmic"));
}

function table(head, rows) {
  const box = make("table");
  for (const row of rows)
    box.append(make("tr", {}, make("th", { scope: "row" }, row[0]), ...row.slice(1).map((c) => make("td", { class: "n" }, c))));
  return make("div", {}, make("h3", {}, head), box);
}

const STATS = ["values", "null", "NaN", "infinite", "zero", "least", "greatest", "mean", "standard deviation"];

function chunks(array) {
  const rows = array.sh.length ? array.sh[0] : 1, columns = array.sh.slice(1).reduce((a, b) => a * b, 1);
  const across = array.ch.slice(1).reduce((n, c, i) => n * Math.ceil(array.sh[i + 1] / Math.max(1, c)), 1);
  const down = Math.ceil(rows / Math.max(1, array.ch[0] || 1));
  const box = make("div", {}, make("h3", {}, "Chunks"));
  if (down && across && down * across <= 4096 && down <= 128 && across <= 128) {
    const lines = [];
    for (let i = 1; i < down; i++) lines.push("M0 " + (i * 100) / down + "H100");
    for (let i = 1; i < across; i++) lines.push("M" + (i * 100) / across + " 0V100");
    const svg = draw("svg", { class: "chunks", viewBox: "0 0 100 100", preserveAspectRatio: "none", width: 160,
      height: Math.max(16, Math.min(160, (160 * rows) / Math.max(1, columns))), role: "img",
      "aria-label": down + " times " + across + " chunks" }, draw("path", { d: lines.join("") }));
    box.append(svg);
  }
  box.append(make("p", { class: "soft" }, array.ch.join(" × ") + ": " + down * across + " in all"));
  return box;
}

function body(array) {
  const box = make("div", { class: "body" });
  if (array.e) box.append(make("p", { class: "bad wide" }, "cannot be read: " + array.e));
  if (array.h) box.append(histogram(array, array.h));
  if (array.m) box.append(heat(array, array.m));
  if (array.st) {
    const rows = STATS.map((name, i) => [name, array.st[i]]).filter(([, v], i) => v !== null && (i === 0 || i > 4 || v > 0));
    box.append(table(array.mag ? "Statistics of the magnitudes" : "Statistics", rows.map(([n, v]) => [n, short(v)])));
  }
  if (array.x) {
    const x = array.x;
    box.append(table("Text", [
      ["different values", (x.exact ? "" : "more than ") + x.distinct],
      ["bytes of a value", x.shortest + " to " + x.longest],
      ["mean", short(x.mean)],
    ]), table(x.exact ? "Most frequent" : "Most frequent (estimate)", x.top));
  }
  if (array.ch) box.append(chunks(array));
  if (array.cs) box.append(heat(array, array.cs, true));
  if (array.z) box.append(make("div", {}, make("h3", {}, "Stored"), make("p", {}, array.z)));
  if (array.k) box.append(make("div", { class: "wide" }, make("h3", {}, "SHA-256"), make("pre", {}, array.k)));
  if (array.a) box.append(make("div", { class: "wide" }, make("h3", {}, "Attributes"), make("pre", {}, array.a)));
  if (array.o) box.append(make("p", { class: "soft wide" }, "Left out, so that this page stays below its size: " + array.o.join(", ") + "."));
  return box;
}

function row(array) {
  const spark = array.h ? (() => {
    const most = Math.max(...array.h.c);
    return draw("svg", { width: 80, height: 16, viewBox: "0 0 " + array.h.c.length + " 16", preserveAspectRatio: "none", "aria-hidden": "true", class: "spark" },
      ...array.h.c.map((n, i) => draw("rect", { x: i, width: 1, y: 16 - (16 * n) / most, height: (16 * n) / most, fill: "currentColor" })));
  })() : "";
  const details = make("details", {}, make("summary", {},
    make("span", { class: "name" }, array.n), make("span", { class: "soft" }, array.t + "  " + array.s),
    array.e ? make("span", { class: "bad" }, "not readable") : "",
    array.st && (array.st[2] || array.st[3]) ? make("span", { class: "bad" }, (array.st[2] + array.st[3]) + " not finite") : "",
    make("span", { class: "end" }, spark, " " + size(array.b))));
  details.addEventListener("toggle", () => {
    if (details.open && details.children.length === 1) details.append(body(array));
  });
  return details;
}

function show(f) {
  const wanted = filter.value.toLowerCase();
  const file = data.files[f];
  const found = file.arrays.filter((a) => (a.n + " " + a.t).toLowerCase().includes(wanted)).sort(ORDERS[sort.value]);
  const last = Math.max(0, Math.ceil(found.length / PAGE) - 1);
  pages[f] = Math.min(pages[f], last);
  const from = pages[f] * PAGE, part = found.slice(from, from + PAGE);
  document.getElementById("list" + f).replaceChildren(...part.map(row));
  document.getElementById("count" + f).textContent = found.length === 0 ? "no array" :
    (from + 1) + " to " + (from + part.length) + " of " + found.length + (found.length === 1 ? " array" : " arrays");
  document.getElementById("back" + f).disabled = pages[f] === 0;
  document.getElementById("next" + f).disabled = pages[f] === last;
}

function all() {
  data.files.forEach((_, f) => { pages[f] = 0; show(f); });
}
filter.addEventListener("input", all);
sort.addEventListener("change", all);
data.files.forEach((_, f) => {
  document.getElementById("back" + f).addEventListener("click", () => { pages[f]--; show(f); });
  document.getElementById("next" + f).addEventListener("click", () => { pages[f]++; show(f); });
});
for (const rect of document.querySelectorAll(".tree rect[data-n]"))
  rect.addEventListener("click", () => { filter.value = rect.dataset.n; all(); });
// An address may name an array: report.html#layers.0
let wanted = "";
try {
  wanted = decodeURIComponent(location.hash.slice(1));
} catch {
  // It is no address of an array.
}
filter.value = wanted;
all();
if (wanted) document.querySelectorAll("details").forEach((d, i) => (d.open = i === 0));
if (data.files.length === 1 && data.files[0].arrays.length === 1) document.querySelector("details").open = true;
