// The connections, and the table of routes.

import {Sparkline, count, duration, make, rate, setChildren, setText} from "./dom.js";

export class Connections {
  constructor(element) {
    this.element = element;
  }

  update(bridge, numbers) {
    const chips = bridge.connections.map((connection) => {
      const more = numbers?.nats[connection.name];
      const facts = connection.connected
        ? [connection.url.replace(/^nats:\/\//, ""), connection.version && `v${connection.version}`, more?.rtt ? `RTT ${duration(more.rtt)}` : ""]
        : [connection.status];
      if (more?.reconnects) facts.push(`${count(more.reconnects)} reconnect${more.reconnects === 1 ? "" : "s"}`);
      return {kind: connection.connected ? "good" : connection.required ? "bad" : "warn", title: `nats.${connection.name}`, facts};
    });
    for (const listener of bridge.listeners) {
      const open = numbers?.listeners[listener.name];
      const facts = [listener.problems[0] ?? (listener.address || listener.endpoint), open ? `${count(open)} connection${open === 1 ? "" : "s"}` : ""];
      chips.push({kind: listener.problems.length ? "bad" : "good", title: `listen.${listener.name}`, facts});
    }
    setChildren(this.element, JSON.stringify(chips), () => chips.map(({kind, title, facts}) =>
      make("div", {class: "chip"}, make("span", {class: `dot ${kind}`}), make("strong", {}, title),
        make("span", {class: "muted"}, facts.filter(Boolean).join(" · ")))));
  }
}

/** What a dot says of a route. */
export function health(route) {
  if (route.problems.length) return ["bad", route.problems.join("; ")];
  if (route.state !== "running") return ["off", route.state];
  if (route.degraded.length) return ["warn", route.degraded.join("; ")];
  return ["good", "it works"];
}

/** The words of a state that are worth a label in the table. */
export function labels(route) {
  const found = route.state === "running" ? [] : [["off", route.state]];
  for (const [name, value] of Object.entries(route.words)) {
    if (name === "breaker") found.push([value === "closed" ? "good" : value === "open" ? "bad" : "warn", `breaker ${value}`]);
  }
  return found;
}

/** Errors by reason, the most frequent first. */
export function errorsByReason(numbers) {
  const found = {};
  for (const kind of ["failed", "dropped", "bad_input"]) {
    for (const [reason, value] of Object.entries(numbers[kind] ?? {})) found[reason] = (found[reason] ?? 0) + value;
  }
  return Object.entries(found).sort((one, other) => other[1] - one[1]);
}

export class Routes {
  constructor(table, actions, onOpen) {
    this.body = table.tBodies[0];
    this.actions = actions;
    this.onOpen = onOpen;
    this.rows = new Map();
  }

  update(routes, numbers, history) {
    const names = new Set(routes.map((route) => route.name));
    for (const [name, row] of this.rows) {
      if (!names.has(name)) {
        row.element.remove();
        this.rows.delete(name);
      }
    }
    routes.forEach((route, index) => {
      let row = this.rows.get(route.name);
      if (!row) this.rows.set(route.name, (row = new Row(route.name, this.actions, this.onOpen)));
      if (this.body.children[index] !== row.element) this.body.insertBefore(row.element, this.body.children[index] ?? null);
      row.update(route, numbers[route.name] ?? {}, history[route.name] ?? []);
    });
  }
}

class Row {
  constructor(name, actions, onOpen) {
    this.sparkline = new Sparkline();
    this.dot = make("span", {class: "dot"});
    this.type = make("span", {class: "type muted"});
    this.source = make("span", {class: "end"});
    this.target = make("span", {class: "end"});
    this.guarantee = make("p", {class: "guarantee muted"});
    this.rate = make("span", {class: "rate"});
    this.cells = {};
    const cell = (key, label, ...content) => (this.cells[key] = make("td", {class: key, "data-label": label}, ...content));
    this.button = make("button", {type: "button", class: "small"});
    this.button.addEventListener("click", (event) => {
      event.stopPropagation();
      const what = this.route.state === "running" ? "pause" : "resume";
      actions.act(`routes/${encodeURIComponent(name)}/${what}`, {}, `${name}: ${what === "pause" ? "paused" : "resumed"}.`);
    });
    const link = make("button", {type: "button", class: "name", onclick: () => onOpen(name)}, name);
    this.element = make("tr", {"data-route": name, onclick: (event) => { if (!event.target.closest("button") && !String(getSelection())) onOpen(name); }},
      make("th", {scope: "row"}, make("div", {class: "title"}, this.dot, make("div", {}, link, this.type))),
      cell("flow", "From → to", make("div", {class: "ends"}, this.source, make("span", {class: "arrow", "aria-label": "to"}, "→"), this.target), this.guarantee),
      cell("traffic", "Messages/s", make("div", {class: "traffic-line"}, this.sparkline.element, this.rate)),
      cell("in-flight number", "In flight"),
      cell("latency number", "p50 / p99"),
      cell("errors", "Errors"),
      cell("lag number", "Lag"),
      cell("state", "State"),
      cell("actions", "", this.button));
  }

  update(route, numbers, history) {
    this.route = route;
    const [kind, words] = health(route);
    this.dot.className = `dot ${kind}`;
    this.dot.title = words;
    setText(this.type, route.type);
    setText(this.source, route.source || "–");
    setText(this.target, route.target || "–");
    setText(this.guarantee, route.guarantee);
    this.guarantee.title = route.guarantee;
    this.sparkline.draw(history);
    setText(this.rate, rate(numbers.rate));
    setText(this.cells["in-flight number"], count(numbers.in_flight ?? 0));
    setText(this.cells["latency number"], numbers.p50 === null || numbers.p50 === undefined ? "–" : `${duration(numbers.p50)} / ${duration(numbers.p99)}`);
    setText(this.cells["lag number"], lag(numbers));
    this.errors(numbers);
    this.states(route, kind, words, numbers);
    setText(this.button, route.state === "running" ? "Pause" : "Resume");
    this.button.setAttribute("aria-label", `${this.button.textContent} ${route.name}`);
    this.button.disabled = route.state === "draining";
  }

  errors(numbers) {
    const reasons = errorsByReason(numbers);
    const total = reasons.reduce((sum, [, value]) => sum + value, 0);
    const shown = reasons.slice(0, 2);
    setChildren(this.cells.errors, JSON.stringify([total, shown]), () => total === 0
      ? [make("span", {class: "muted"}, "0")]
      : [make("strong", {class: "bad-text"}, count(total)), ...shown.map(([reason, value]) => make("span", {class: "reason"}, `${reason} ${count(value)}`)),
         reasons.length > 2 && make("span", {class: "muted"}, `+${reasons.length - 2} more`)]);
  }

  states(route, kind, words, numbers) {
    const found = labels(route);
    if (numbers.dead) found.push(["warn", `${count(numbers.dead)} dead letter${numbers.dead === 1 ? "" : "s"}`]);
    if (numbers.clients !== undefined) found.push(["info", `${count(numbers.clients)} client${numbers.clients === 1 ? "" : "s"}`]);
    const text = kind === "bad" || kind === "warn" ? words : "";
    setChildren(this.cells.state, JSON.stringify([found, text]), () => [
      ...found.map(([label, value]) => make("span", {class: `label ${label}`}, value)),
      text ? make("p", {class: `why ${kind}-text`, title: text}, text) : null,
      !found.length && !text ? make("span", {class: "muted"}, "running") : null,
    ]);
  }
}

export function lag(numbers) {
  if (numbers.lag_messages === undefined) return "–";
  return numbers.lag_seconds ? `${count(numbers.lag_messages)} · ${duration(numbers.lag_seconds)}` : count(numbers.lag_messages);
}
