// What is known of one route, in a drawer.

import {call} from "./api.js";
import {ago, command, count, duration, make, setChildren, setText} from "./dom.js";
import {DeadLetters, LiveTap} from "./messages.js";
import {errorsByReason, health, lag} from "./overview.js";

const REFRESH = 2000;
const TABS = {overview: "Overview", errors: "Errors", dead: "Dead letters", tap: "Live tap", config: "Configuration"};

export class Drawer {
  constructor(element, actions, onClose) {
    Object.assign(this, {element, actions, onClose});
    this.name = null;
    this.tab = "overview";
  }

  open(name) {
    if (name === this.name) return;
    this.close();
    this.name = name;
    this.tab = "overview";
    if (!name) return;
    this.build(name);
    this.element.hidden = false;
    document.body.classList.add("has-drawer");
    this.timer = setInterval(() => this.fetch(), REFRESH);
    this.fetch();
    this.element.querySelector(".close").focus({preventScroll: true});
  }

  close() {
    clearInterval(this.timer);
    this.tap?.stop();
    this.tap = this.letters = this.route = this.more = null;
    this.element.hidden = true;
    this.element.replaceChildren();
    document.body.classList.remove("has-drawer");
  }

  build(name) {
    this.letters = new DeadLetters(name, this.actions);
    this.tap = new LiveTap(name, this.actions);
    this.parts = {};
    const part = (key, ...content) => (this.parts[key] = make("section", {class: `tab-${key}`, role: "tabpanel", "aria-label": TABS[key], hidden: true}, ...content));
    this.dot = make("span", {class: "dot"});
    this.facts = make("span", {class: "muted"});
    this.switches = {
      pause: this.action("Pause", "pause", `${name}: paused.`),
      drain: this.action("Drain", "drain", (answer) => `${name}: ${answer.complete ? "drained" : "drained; what took too long was cut off"}.`),
      resume: this.action("Resume", "resume", `${name}: resumed.`),
    };
    this.tabs = make("div", {class: "tabs", role: "tablist"}, Object.entries(TABS).map(([key, text]) =>
      make("button", {type: "button", role: "tab", "data-tab": key, onclick: () => this.choose(key)}, text)));
    this.overview = {
      why: make("div"), numbers: make("dl", {class: "facts"}), reasons: make("div", {class: "reasons"}),
      commands: make("div"), guarantee: make("p", {class: "guarantee-full"}),
    };
    this.element.replaceChildren(
      make("div", {class: "drawer-head"},
        make("div", {class: "drawer-title"}, this.dot, make("div", {}, make("h2", {}, name), this.facts),
          make("button", {type: "button", class: "close", "aria-label": "Close", onclick: () => this.onClose()}, "×")),
        make("div", {class: "buttons"}, Object.values(this.switches)),
        this.tabs),
      make("div", {class: "drawer-body"},
        part("overview", this.overview.why, make("h3", {}, "Guarantee"), this.overview.guarantee, make("h3", {}, "Now"), this.overview.numbers,
          this.overview.reasons, make("h3", {}, "Try it"), this.overview.commands),
        part("errors"), part("dead", this.letters.element), part("tap", this.tap.element), part("config")));
    this.choose("overview");
  }

  action(text, what, done) {
    const path = `routes/${encodeURIComponent(this.name)}/${what}`;
    return make("button", {type: "button", onclick: () => this.actions.act(path, {}, done)}, text);
  }

  choose(tab) {
    this.tab = tab;
    for (const [key, part] of Object.entries(this.parts)) part.hidden = key !== tab;
    for (const button of this.tabs.children) {
      button.setAttribute("aria-selected", String(button.dataset.tab === tab));
      if (button.dataset.tab === tab) button.scrollIntoView({inline: "nearest", block: "nearest"});
    }
    if (tab === "dead") this.letters.fetch();
    if (tab === "tap") this.tap.start();
    else this.tap.stop();
  }

  /** The token was given or taken back: what it shows is asked for anew. */
  unlocked() {
    if (!this.name) return;
    if (this.tab === "dead") this.letters.fetch();
    if (this.tab === "tap") {
      this.tap.stop();
      this.tap.start();
    }
  }

  async fetch() {
    const name = this.name;
    try {
      const found = await call(`routes/${encodeURIComponent(name)}`);
      if (name === this.name) {
        this.more = found;
        this.renderMore();
      }
    } catch {
      // The banner tells of a bridge that does not answer; and a route that is gone is gone from the table.
    }
  }

  update(bridge, numbers) {
    if (!this.name) return;
    const route = bridge.routes.find((one) => one.name === this.name);
    if (!route) {
      this.onClose();
      return;
    }
    this.route = route;
    const [kind] = health(route);
    this.dot.className = `dot ${kind}`;
    setText(this.facts, `${route.type} · ${route.source || "–"} → ${route.target || "–"}`);
    this.switches.pause.hidden = route.state !== "running";
    this.switches.drain.hidden = route.state === "drained" || route.state === "draining";
    this.switches.resume.hidden = route.state === "running";
    this.switches.resume.disabled = route.state === "draining";
    this.tabs.querySelector("[data-tab=dead]").hidden = !route.can.dead_letters;
    this.renderOverview(route, numbers[this.name] ?? {});
    this.letters.changed(numbers[this.name]?.dead);
  }

  renderOverview(route, numbers) {
    const {why, reasons, commands, guarantee} = this.overview;
    const troubles = [...route.problems.map((text) => ["bad", text]), ...route.degraded.map((text) => ["warn", text])];
    setChildren(why, JSON.stringify(troubles), () => troubles.map(([kind, text]) => make("div", {class: `banner ${kind}`}, text)));
    setText(guarantee, route.guarantee);
    const shown = [["state", route.state], ...Object.entries(route.words)];
    const measured = [
      ["in", count(numbers.in)], ["out", count(numbers.out)], ["in flight", count(numbers.in_flight)], ["p50", duration(numbers.p50)], ["p99", duration(numbers.p99)],
      ["lag", lag(numbers)], ["connections", numbers.connections || undefined], ["retries", numbers.retries], ["dead letters", numbers.dead],
      ["duplicates", numbers.duplicates], ["clients", numbers.clients], ["slow clients", numbers.slow_clients], ["loops dropped", numbers.loops || undefined],
      ["ack pending", numbers.ack_pending === undefined ? undefined : `${Math.round(numbers.ack_pending * 100)} %`],
    ].filter(([name, value]) => value !== undefined && !shown.some(([other]) => other === name));
    facts(this.overview.numbers, [...shown, ...measured]);
    const errors = errorsByReason(numbers);
    setChildren(reasons, JSON.stringify(errors), () => errors.map(([reason, value]) => make("span", {class: "label bad"}, `${reason} ${count(value)}`)));
    setChildren(commands, JSON.stringify(route.commands), () => route.commands.length
      ? route.commands.map(([title, text]) => command(title, text)) : [make("p", {class: "muted"}, "The route names no command to try.")]);
  }

  renderMore() {
    const {errors, config} = this.more;
    const now = this.actions.now();
    setText(this.tabs.querySelector("[data-tab=errors]"), errors.length ? `Errors (${errors.length})` : "Errors");
    setChildren(this.parts.errors, JSON.stringify([errors, Math.floor(now / 5)]), () => errors.length
      ? errors.map((error) => make("article", {class: "entry"},
          make("header", {}, make("span", {class: "label bad"}, error.kind), error.count > 1 && make("span", {class: "muted"}, `${count(error.count)} times`),
            make("time", {class: "muted", title: new Date(error.time * 1000).toISOString()}, ago(error.time, now))),
          make("p", {}, error.cause),
          error.hint && make("p", {class: "muted hint"}, error.hint)))
      : [make("p", {class: "empty"}, "No errors so far.")]);
    setChildren(this.parts.config, JSON.stringify(config), () => [
      make("p", {class: "muted"}, "As it runs, with all defaults and without secrets."),
      make("pre", {class: "config"}, toToml(this.name, config)),
    ]);
  }
}

function facts(element, pairs) {
  setChildren(element, JSON.stringify(pairs), () => pairs.map(([name, value]) => make("div", {}, make("dt", {}, name), make("dd", {}, String(value)))));
}

function toToml(name, config) {
  const value = (found) => {
    if (Array.isArray(found)) return `[${found.map(value).join(", ")}]`;
    if (found && typeof found === "object") return Object.keys(found).length === 0 ? "{}" : `{ ${Object.entries(found).map(([key, item]) => `${key} = ${value(item)}`).join(", ")} }`;
    return JSON.stringify(found);
  };
  return [`[routes.${name}]`, ...Object.entries(config).map(([key, found]) => `${key} = ${value(found)}`)].join("\n");
}

