// Messages of one route: dead letters, and the live tap.

import {call, stream} from "./api.js";
import {ago, bytes, clock, count, make, setText} from "./dom.js";

const MAX_HOPS = 100;
const LIMIT = 50;

function contents(message) {
  if (message.preview === undefined || (message.preview === "" && message.size > 0)) return null;
  const text = message.preview === "" ? "(empty)" : message.preview + (message.is_cut ? " …" : "");
  return make("pre", {class: message.is_text ? "preview" : "preview binary"}, text);
}

function headerLines(message) {
  if (!message.headers?.length) return null;
  return make("details", {}, make("summary", {class: "muted"}, `${message.headers.length} header${message.headers.length === 1 ? "" : "s"}`),
    make("pre", {class: "preview"}, message.headers.map(([name, value]) => `${name}: ${value}`).join("\n")));
}

function unlock(actions) {
  return make("button", {type: "button", class: "small", hidden: true, onclick: () => actions.askToken()}, "Unlock");
}

/** A button that wants to be pressed twice. */
function sure(text, action) {
  const button = make("button", {type: "button", class: "small danger"}, text);
  let timer = null;
  button.addEventListener("click", () => {
    clearTimeout(timer);
    if (button.dataset.sure) {
      delete button.dataset.sure;
      button.textContent = text;
      action();
    } else {
      button.dataset.sure = "yes";
      button.textContent = "Really?";
      timer = setTimeout(() => { delete button.dataset.sure; button.textContent = text; }, 3000);
    }
  });
  return button;
}

export class DeadLetters {
  constructor(name, actions) {
    Object.assign(this, {name, actions});
    this.path = `routes/${encodeURIComponent(name)}/dlq`;
    this.note = make("p", {class: "muted"});
    this.list = make("div", {class: "entries"});
    this.all = make("div", {class: "buttons", hidden: true},
      make("button", {type: "button", class: "small primary", onclick: () => this.change("replay", {all: true})}, "Replay all"),
      sure("Delete all", () => this.change("delete", {all: true})));
    this.unlock = unlock(actions);
    this.element = make("div", {}, make("div", {class: "section-head"}, this.note, this.unlock, this.all), this.list);
  }

  /** The counter of dead letters has a new value: the list is old, if it is shown. */
  changed(value) {
    const isNew = this.seen !== undefined && value !== this.seen;
    this.seen = value;
    if (isNew && this.element.offsetParent !== null) this.fetch();
  }

  async fetch() {
    try {
      const {dead_letters: letters, contents: shown} = await call(`${this.path}?limit=${LIMIT}`);
      this.render(letters, shown);
    } catch (error) {
      this.all.hidden = true;
      this.unlock.hidden = true;
      setText(this.note, error.message);
      this.list.replaceChildren();
    }
  }

  render(letters, shown) {
    this.all.hidden = letters.length === 0;
    const hidden = letters.length && !shown ? " Their contents are shown to those who have the token." : "";
    this.unlock.hidden = shown || !this.actions.locked();
    setText(this.note, letters.length ? `${letters.length === LIMIT ? `The newest ${LIMIT}` : count(letters.length)} given up.${hidden}` : "No dead letters.");
    const now = this.actions.now();
    this.list.replaceChildren(...letters.map((letter) => make("article", {class: "entry", "data-seq": letter.seq},
      make("header", {}, make("strong", {class: "subject"}, letter.subject),
        make("time", {class: "muted", title: new Date(letter.time * 1000).toISOString()}, ago(letter.time, now))),
      make("p", {class: "bad-text"}, letter.error),
      make("p", {class: "muted"}, `${letter.attempts} attempt${letter.attempts === 1 ? "" : "s"} · ${bytes(letter.size)} · dead letter ${letter.seq}`),
      contents(letter), headerLines(letter),
      make("div", {class: "buttons"},
        make("button", {type: "button", class: "small", onclick: () => this.change("replay", {seqs: [letter.seq]})}, "Replay"),
        sure("Delete", () => this.change("delete", {seqs: [letter.seq]}))))));
  }

  async change(what, which) {
    const done = (answer) => what === "replay" ? replayed(answer) : `${count(answer.deleted)} deleted.`;
    await this.actions.act(`${this.path}/${what}`, which, done);
    this.fetch();
  }
}

function replayed(answer) {
  if (answer.replayed === 0) return "The target did not take it.";
  return answer.asked && answer.replayed < answer.asked ? `${count(answer.replayed)} of ${count(answer.asked)} replayed.` : `${count(answer.replayed)} replayed.`;
}

export class LiveTap {
  constructor(name, actions) {
    Object.assign(this, {name, actions});
    this.note = make("p", {class: "muted"});
    this.button = make("button", {type: "button", class: "small", onclick: () => (this.abort ? this.stop() : this.start())}, "Start");
    this.list = make("div", {class: "entries hops"});
    this.unlock = unlock(actions);
    this.element = make("div", {}, make("div", {class: "section-head"}, this.note, make("div", {class: "buttons"}, this.unlock, this.button)), this.list);
  }

  start() {
    if (this.abort) return;
    const abort = (this.abort = new AbortController());
    setText(this.button, "Stop");
    setText(this.note, "Connecting …");
    stream(`routes/${encodeURIComponent(this.name)}/tap?rate=20`, {
      signal: abort.signal,
      onEvent: (kind, content) => (kind === "hop" ? this.hop(content) : this.begun(content)),
      onLost: (error) => setText(this.note, error.message),
    });
  }

  stop() {
    this.abort?.abort();
    this.abort = null;
    setText(this.button, "Start");
    setText(this.note, "Stopped.");
  }

  begun({rate, contents: shown}) {
    const hidden = shown ? "" : " The contents of messages are shown to those who have the token.";
    this.unlock.hidden = shown || !this.actions.locked();
    setText(this.note, `At most ${rate} hops a second; what is left out is counted.${hidden}`);
  }

  hop(hop) {
    const details = Object.entries(hop.details).map(([name, value]) => `${name}=${typeof value === "number" && !Number.isInteger(value) ? value.toFixed(1) : value}`);
    this.list.prepend(make("article", {class: "entry hop"},
      make("header", {}, make("time", {class: "muted"}, clock(hop.time)), make("span", {class: `label ${kindOf(hop)}`}, hop.step), make("span", {class: "subject"}, hop.subject),
        make("span", {class: "muted"}, [bytes(hop.size), ...details].join(" · ")),
        hop.left_out > 0 && make("span", {class: "label warn"}, `${count(hop.left_out)} left out before`)),
      contents(hop), headerLines(hop)));
    while (this.list.children.length > MAX_HOPS) this.list.lastChild.remove();
  }
}

function kindOf(hop) {
  if (/fail|drop|refus|dead|lost|error/.test(hop.step)) return "bad";
  return /retr|wait|nak|late/.test(hop.step) ? "warn" : "info";
}
