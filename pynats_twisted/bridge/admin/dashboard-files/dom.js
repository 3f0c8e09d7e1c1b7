// Elements, formats and small drawings.

/** An element: make("td", {class: "x", onclick: f}, "text", another). Texts stay texts, whatever is in them. */
export function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value !== undefined && value !== null) element.setAttribute(name, value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

/** Set the text of an element only when it differs, so that a selection in it survives. */
export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** Put children in the place of what is there only when their key differs. */
export function setChildren(element, key, children) {
  if (element.dataset.key !== key) {
    element.dataset.key = key;
    element.replaceChildren(...children().filter(Boolean));
  }
}

export function duration(seconds) {
  if (seconds === null || seconds === undefined) return "–";
  if (seconds < 0.001) return `${Math.round(seconds * 1e6)} µs`;
  if (seconds < 0.1) return `${(seconds * 1e3).toFixed(1)} ms`;
  if (seconds < 1) return `${Math.round(seconds * 1e3)} ms`;
  if (seconds < 60) return `${seconds.toFixed(1)} s`;
  return span(seconds);
}

/** Long times: 3 d 4 h, 12 min, 40 s. */
export function span(seconds) {
  const whole = Math.max(0, Math.floor(seconds));
  const days = Math.floor(whole / 86400), hours = Math.floor(whole / 3600) % 24, minutes = Math.floor(whole / 60) % 60;
  if (days) return `${days} d ${hours} h`;
  if (hours) return `${hours} h ${minutes} min`;
  return minutes ? `${minutes} min ${whole % 60} s` : `${whole} s`;
}

export function count(value) {
  if (value === null || value === undefined) return "–";
  if (value >= 1e6) return `${(value / 1e6).toFixed(1)} M`;
  return value >= 1e4 ? `${(value / 1e3).toFixed(1)} k` : value.toLocaleString("en");
}

export function rate(value) {
  if (!value) return "0";
  return value < 10 ? value.toFixed(1) : count(Math.round(value));
}

export function bytes(size) {
  if (size < 1024) return `${size} B`;
  return size < 1024 * 1024 ? `${(size / 1024).toFixed(1)} KiB` : `${(size / 1048576).toFixed(1)} MiB`;
}

export function clock(seconds) {
  const date = new Date(seconds * 1000);
  const pad = (number, length = 2) => String(number).padStart(length, "0");
  return `${pad(date.getHours())}:${pad(date.getMinutes())}:${pad(date.getSeconds())}.${pad(date.getMilliseconds(), 3)}`;
}

export function ago(seconds, now) {
  const passed = now - seconds;
  return passed < 2 ? "just now" : `${span(passed)} ago`;
}

const SVG = "http://www.w3.org/2000/svg";

/** A line of the last values; the newest at the right. */
export class Sparkline {
  constructor(width = 96, height = 26, length = 60) {
    Object.assign(this, {width, height, length});
    this.element = document.createElementNS(SVG, "svg");
    this.element.setAttribute("viewBox", `0 0 ${width} ${height}`);
    this.element.setAttribute("class", "sparkline");
    this.element.setAttribute("preserveAspectRatio", "none");
    this.element.setAttribute("aria-hidden", "true");
    const ground = this.element.appendChild(document.createElementNS(SVG, "path"));
    ground.setAttribute("class", "ground");
    ground.setAttribute("d", `M0 ${height - 1.5}H${width}`);
    this.area = this.element.appendChild(document.createElementNS(SVG, "path"));
    this.area.setAttribute("class", "area");
    this.line = this.element.appendChild(document.createElementNS(SVG, "path"));
    this.line.setAttribute("class", "line");
  }

  draw(values) {
    const shown = values.slice(-this.length);
    const top = Math.max(1, ...shown), step = this.width / (this.length - 1);
    const begin = this.width - (shown.length - 1) * step;
    const points = shown.map((value, index) => {
      const x = begin + index * step, y = this.height - 1.5 - (value / top) * (this.height - 4);
      return `${x.toFixed(1)} ${y.toFixed(1)}`;
    });
    const path = points.length > 1 ? `M${points.join("L")}` : "";
    this.line.setAttribute("d", path);
    this.area.setAttribute("d", path && `${path}L${this.width} ${this.height}L${begin.toFixed(1)} ${this.height}Z`);
  }
}

/** A command with a button that copies it. */
export function command(title, text) {
  const button = make("button", {type: "button", class: "small", "aria-label": `Copy: ${title}`}, "Copy");
  button.addEventListener("click", async () => {
    const done = await copy(text);
    button.textContent = done ? "Copied" : "Select it";
    setTimeout(() => { button.textContent = "Copy"; }, 1500);
  });
  return make("div", {class: "command"}, make("p", {class: "muted"}, title), make("div", {class: "command-line"}, make("code", {}, text), button));
}

async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    // Only pages of https and of this machine have a clipboard; there is an older way.
    const field = make("textarea", {class: "hidden-text"});
    field.value = text;
    document.body.append(field);
    field.select();
    const done = document.execCommand("copy");
    field.remove();
    return done;
  }
}

export function toast(text, kind = "good") {
  const element = make("div", {class: `toast ${kind}`, role: "status"}, text);
  document.getElementById("toasts").append(element);
  setTimeout(() => element.remove(), kind === "bad" ? 8000 : 4000);
}
