// Draws a small figure as SVG, and tells of a box that is drawn on it and of a point that is clicked: what Plotly does on
// the other pages. Its 4.7 MB of code would hold up the first screen by about a second.
//
// data: kind "bars" or "points", x and y {title, low, high}, height; bars: [{name, colour, counts}] from low to high of x,
// on a log scale; points: [{colour, shape, x, y, latent}]; density: rows of 0..1, the lowest first.
const NS = "http://www.w3.org/2000/svg";
const SHAPES = {
  circle: (x, y) => `M${x - 3} ${y}a3 3 0 1 0 6 0a3 3 0 1 0 -6 0`,
  diamond: (x, y) => `M${x} ${y - 4}l4 4l-4 4l-4 -4z`,
  "triangle-up": (x, y) => `M${x} ${y - 5}l4.5 8h-9z`,
  "triangle-down": (x, y) => `M${x} ${y + 5}l4.5 -8h-9z`,
};
const REACH = 10; // pixels from a point that still mean it

export default function ({ data, parentElement, setTriggerValue }) {
  const host = parentElement.querySelector(".mneme-sketch");
  const draw = () => figure(host, data, setTriggerValue);
  const watch = new ResizeObserver(() => {
    if (host.clientWidth !== Number(host.dataset.width)) draw();
  });
  draw();
  watch.observe(host);
  return () => watch.disconnect();
}

function figure(host, data, tell) {
  const width = host.clientWidth, height = data.height;
  host.dataset.width = width;
  host.replaceChildren();
  if (width < 80) return;
  const frame = { left: 50, right: width - 8, top: 8, bottom: height - 40 };
  const svg = add(host, "svg", { width, height, role: "img", "aria-label": data.alt });
  const across = scale(data.x, frame.left, frame.right);
  const bars = data.kind === "bars";
  const highest = bars ? Math.max(10, ...data.bars.flatMap((bar) => bar.counts)) : 0;
  const up = scale(bars ? { low: Math.log10(0.5), high: Math.log10(highest * 1.3) } : data.y, frame.bottom, frame.top);
  for (const value of ticks(data.x, 5)) {
    line(svg, across.of(value), frame.top, across.of(value), frame.bottom);
    text(svg, across.of(value), frame.bottom + 14, short(value), "middle");
  }
  for (const value of bars ? decades(highest) : ticks(data.y, 4)) {
    const at = up.of(bars ? Math.log10(value) : value);
    line(svg, frame.left, at, frame.right, at);
    text(svg, frame.left - 5, at + 4, short(value), "end");
  }
  text(svg, (frame.left + frame.right) / 2, height - 6, data.x.title, "middle", "title");
  const side = text(svg, 0, 0, data.y.title, "middle", "title");
  side.setAttribute("transform", `translate(12 ${(frame.top + frame.bottom) / 2}) rotate(-90)`);
  const note = add(host, "div", { class: "note" });
  const marks = bars ? drawBars(svg, data, across, up, frame) : drawPoints(svg, data, across, up, frame);
  gestures(svg, note, { frame, across, up, bars, marks, tell });
}

function drawBars(svg, data, across, up, frame) {
  const n = data.bars[0]?.counts.length ?? 0;
  const step = (data.x.high - data.x.low) / n;
  for (const bar of data.bars)
    bar.counts.forEach((count, i) => {
      if (!count) return;
      const x = across.of(data.x.low + i * step), y = up.of(Math.log10(count));
      add(svg, "rect", {
        x: x + 0.4, y, width: Math.max(1, across.of(data.x.low + (i + 1) * step) - x - 0.8),
        height: frame.bottom - y, fill: bar.colour, "fill-opacity": 0.75,
      });
    });
  return (x) => {
    const i = Math.floor((across.back(x) - data.x.low) / step);
    const here = data.bars.filter((bar) => bar.counts[i]).map((bar) => `${bar.counts[i].toLocaleString("en")} ${bar.name}`);
    if (!here.length) return null;
    return { note: [`${short(data.x.low + i * step)} to ${short(data.x.low + (i + 1) * step)}`, ...here], latent: null };
  };
}

function drawPoints(svg, data, across, up, frame) {
  if (data.density?.length) {
    const n = data.density.length;
    const canvas = Object.assign(document.createElement("canvas"), { width: n, height: n });
    const pixels = canvas.getContext("2d").createImageData(n, n);
    data.density.forEach((row, j) => row.forEach((share, i) => {
      pixels.data.set([128, 128, 128, share ? 40 + 170 * share : 0], 4 * ((n - 1 - j) * n + i));
    }));
    canvas.getContext("2d").putImageData(pixels, 0, 0);
    add(svg, "image", {
      href: canvas.toDataURL(), x: frame.left, y: frame.top, width: frame.right - frame.left,
      height: frame.bottom - frame.top, preserveAspectRatio: "none",
    });
  }
  const low = Math.max(data.x.low, data.y.low), high = Math.min(data.x.high, data.y.high);
  if (low < high) line(svg, across.of(low), up.of(low), across.of(high), up.of(high), "diagonal");
  const drawn = [];
  for (const group of data.points) {
    const path = [];
    group.x.forEach((value, i) => {
      const x = across.of(value), y = up.of(group.y[i]);
      if (x < frame.left || x > frame.right || y < frame.top || y > frame.bottom) return;
      path.push((SHAPES[group.shape] ?? SHAPES.circle)(+x.toFixed(1), +y.toFixed(1)));
      drawn.push([x, y, group.latent[i], value, group.y[i]]);
    });
    add(svg, "path", { d: path.join(""), fill: group.colour, "fill-opacity": 0.75 });
  }
  return (x, y) => {
    let best = null, least = REACH;
    for (const mark of drawn) {
      const away = Math.hypot(mark[0] - x, mark[1] - y);
      if (away < least) [best, least] = [mark, away];
    }
    if (!best) return null;
    const [, , latent, one, other] = best;
    return { note: [`latent ${latent}`, `${data.x.title} ${short(one)}`, `${data.y.title} ${short(other)}`], latent };
  };
}

/** A box that is drawn, a point that is clicked or pointed at. */
function gestures(svg, note, { frame, across, up, bars, marks, tell }) {
  let start = null, box = null;
  const inside = (event) => {
    const corner = svg.getBoundingClientRect();
    const clip = (value, low, high) => Math.max(low, Math.min(high, value));
    return [clip(event.clientX - corner.left, frame.left, frame.right), clip(event.clientY - corner.top, frame.top, frame.bottom)];
  };
  svg.addEventListener("pointerdown", (event) => {
    if (event.button) return;
    start = inside(event);
    svg.setPointerCapture(event.pointerId);
    event.preventDefault();
  });
  svg.addEventListener("pointermove", (event) => {
    const [x, y] = inside(event);
    if (start) {
      box ??= add(svg, "rect", { class: "box" });
      const [top, bottom] = bars ? [frame.top, frame.bottom] : [Math.min(y, start[1]), Math.max(y, start[1])];
      set(box, { x: Math.min(x, start[0]), width: Math.abs(x - start[0]), y: top, height: bottom - top });
    }
    const found = start ? null : marks(x, y);
    note.textContent = found ? found.note.join("\n") : "";
    set(note, { style: found ? `display:block;left:${x > (frame.left + frame.right) / 2 ? x - 150 : x + 12}px;top:${Math.max(0, y - 10)}px` : "display:none" });
    svg.style.cursor = found?.latent != null ? "pointer" : "crosshair";
  });
  svg.addEventListener("pointerleave", () => set(note, { style: "display:none" }));
  svg.addEventListener("pointercancel", () => { box?.remove(); start = box = null; });
  svg.addEventListener("pointerup", (event) => {
    if (!start) return;
    const from = start, to = inside(event);
    box?.remove();
    start = box = null;
    if (Math.hypot(from[0] - to[0], from[1] - to[1]) > 5) {
      const range = (axis, i) => [axis.back(from[i]), axis.back(to[i])].sort((a, b) => a - b);
      tell("box", { x: range(across, 0), y: bars ? [] : range(up, 1) });
    } else {
      const found = marks(...to);
      if (found?.latent != null) tell("latent", found.latent);
    }
  });
}

function scale({ low, high }, from, to) {
  const step = (to - from) / (high - low || 1);
  return { of: (value) => from + (value - low) * step, back: (pixel) => low + (pixel - from) / step };
}

function ticks({ low, high }, most) {
  const raw = (high - low) / most, power = 10 ** Math.floor(Math.log10(raw));
  const step = power * [1, 2, 5, 10].find((each) => each * power >= raw);
  const found = [];
  for (let i = Math.ceil(low / step - 1e-9); i * step <= high + 1e-9 * step; i++) found.push(i * step);
  return found;
}

function decades(highest) {
  const found = [];
  for (let value = 1; value <= highest * 1.3; value *= 10) found.push(value);
  return found;
}

function short(value) {
  const size = Math.abs(value);
  if (size >= 1e6) return `${+(value / 1e6).toPrecision(3)}M`;
  return size >= 1e3 ? `${+(value / 1e3).toPrecision(3)}k` : String(+value.toPrecision(3)).replace("-", "−");
}

function set(node, facts) {
  for (const [name, value] of Object.entries(facts)) node.setAttribute(name, value);
}

function add(parent, name, facts) {
  const node = name === "div" ? document.createElement(name) : document.createElementNS(NS, name);
  set(node, facts);
  return parent.appendChild(node);
}

function line(svg, x1, y1, x2, y2, kind = "grid") {
  return add(svg, "line", { x1, y1, x2, y2, class: kind });
}

function text(svg, x, y, words, anchor, kind = "tick") {
  const node = add(svg, "text", { x, y, "text-anchor": anchor, class: kind });
  node.textContent = words;
  return node;
}
