// The dashboard: what the event stream says goes into one state, and from there to the views.

import {call, stream, token} from "./api.js";
import {make, setChildren, setText, span, toast} from "./dom.js";
import {Drawer} from "./drawer.js";
import {Connections, Routes} from "./overview.js";

const HISTORY = 60;
const MOST_LINES = 8;
const byId = (id) => document.getElementById(id);

const state = {bridge: null, numbers: null, history: {}, online: false, lost: "", offset: 0};
const actions = {act, askToken, locked: () => Boolean(state.bridge?.has_token) && !token.get(), now: () => Date.now() / 1000 + state.offset};

const routes = new Routes(byId("routes"), actions, (name) => open(name));
const connections = new Connections(byId("connections"));
const drawer = new Drawer(byId("drawer"), actions, () => open(null));

// --- the event stream ---------------------------------------------------------------------------------------------

const handlers = {
  bridge(content) {
    state.bridge = content;
    render();
  },
  history(content) {
    state.history = content;
    state.numbers = null;
  },
  numbers(content) {
    const before = state.numbers;
    state.offset = content.time - Date.now() / 1000;
    state.numbers = content;
    for (const [name, numbers] of Object.entries(content.routes)) {
      const values = (state.history[name] ??= []);
      const earlier = before?.routes[name];
      if (earlier && content.time > before.time) values.push(Math.max(0, (numbers.in - earlier.in) / (content.time - before.time)));
      if (values.length > HISTORY) values.splice(0, values.length - HISTORY);
    }
    render();
  },
};

function listen() {
  stream("events", {
    signal: new AbortController().signal,
    onEvent: (kind, content) => handlers[kind]?.(content),
    onOpen: () => { state.online = true; render(); },
    onLost: (error) => { state.online = false; state.lost = error.message; rejected(error); render(); },
  });
}

/** A token of last week, or of another bridge, must not lock the page out. */
function rejected(error) {
  if ((error.status === 401 || error.status === 403) && token.get()) {
    token.set("");
    toast("The token is not that of this bridge any more.", "bad");
  }
}

// --- drawing ------------------------------------------------------------------------------------------------------

const STATUS = {ready: ["good", "Ready"], degraded: ["warn", "Degraded"], unready: ["bad", "Not ready"]};

function render() {
  const {bridge, numbers} = state;
  document.body.classList.toggle("offline", !state.online);
  if (bridge) {
    setText(byId("bridge-name"), bridge.bridge);
    document.title = `${bridge.bridge} · nats-bridge`;
    setText(byId("bridge-facts"), `nats-bridge ${bridge.version} · up ${span(actions.now() - bridge.started)}`);
    const [kind, text] = state.online ? STATUS[bridge.status] : ["bad", "No connection"];
    byId("status").className = `pill ${kind}`;
    setText(byId("status"), text);
    byId("no-routes").hidden = bridge.routes.length > 0;
    byId("reload-button").hidden = !bridge.can_reload;
    byId("token-button").hidden = !bridge.has_token;
    setText(byId("token-button"), token.get() ? "Lock" : "Unlock");
    connections.update(bridge, numbers);
    routes.update(bridge.routes, numbers?.routes ?? {}, state.history);
    drawer.update(bridge, numbers?.routes ?? {});
  }
  banners();
}

function banners() {
  const {bridge} = state;
  const found = [];
  if (!state.online && (bridge || state.lost)) found.push(["bad", "No connection to the bridge", [`${state.lost} What you see may be old.`]]);
  if (bridge && state.online) {
    if (bridge.reasons.length) found.push(["bad", "Not ready", bridge.reasons]);
    if (bridge.degraded.length) found.push(["warn", "Degraded", bridge.degraded]);
    if (bridge.disk.differs) found.push(["warn", "The configuration on disk differs from the one that runs", diskTexts(bridge.disk), bridge.can_reload]);
    if (!bridge.has_token) found.push(["info", "Read-only", ["[admin] has no token, so nothing can be changed here, and the contents of messages are not shown."]]);
  }
  setChildren(byId("banners"), JSON.stringify(found), () => found.map(([kind, title, texts, reloadable]) =>
    make("div", {class: `banner ${kind}`},
      make("strong", {}, title),
      make("ul", {}, texts.slice(0, MOST_LINES).map((text) => make("li", {}, text)),
        texts.length > MOST_LINES && make("li", {}, `and ${texts.length - MOST_LINES} more`)),
      reloadable && make("button", {type: "button", onclick: reload}, "Reload"))));
}

function diskTexts(disk) {
  if (disk.problems.length) return [`${disk.file} cannot be used`, ...disk.problems];
  const parts = ["added", "changed", "removed"].filter((kind) => disk[kind]?.length).map((kind) => `${kind}: ${disk[kind].join(", ")}`);
  return [parts.length ? `Routes ${parts.join("; ")}.` : `${disk.file} was changed.`];
}

// --- doing --------------------------------------------------------------------------------------------------------

/** Whether something may be changed; asks for the token where that would help. */
async function may() {
  if (!state.bridge?.has_token) {
    toast("[admin] has no token, so nothing can be changed here.", "bad");
    return false;
  }
  return Boolean(token.get()) || askToken();
}

/** Do something that changes the bridge; says how it went, and returns what was answered, or null. */
async function act(path, body, done) {
  if (!(await may())) return null;
  try {
    const answer = await call(path, {body});
    toast(typeof done === "function" ? done(answer) : done);
    return answer;
  } catch (error) {
    rejected(error);
    const more = error.problem?.problems?.map((problem) => `${problem.path}: ${problem.found}`).join("; ");
    toast(more ? `${error.message} ${more}` : error.message, "bad");
    return null;
  }
}

function reload() {
  return act("reload", {}, (report) => {
    const parts = ["added", "changed", "removed", "failed"].filter((kind) => report[kind]?.length);
    return parts.length ? `Reloaded. ${parts.map((kind) => `${kind}: ${report[kind].join(", ")}`).join("; ")}` : "Reloaded; no route differs.";
  });
}

// --- the token ----------------------------------------------------------------------------------------------------

let answerToken = null;

function askToken() {
  const dialog = byId("token-dialog");
  setText(byId("token-problem"), "");
  byId("token-input").value = "";
  if (!dialog.open) dialog.showModal();
  return new Promise((resolve) => { answerToken = resolve; });
}

byId("token-dialog").addEventListener("submit", async (event) => {
  event.preventDefault();
  const value = byId("token-input").value.trim();
  try {
    await call("routes", {using: value});
    if (!value) throw new Error("The token is empty.");
    token.set(value);
    byId("token-dialog").close();
  } catch (error) {
    setText(byId("token-problem"), error.message);
  }
});
byId("token-cancel").addEventListener("click", () => byId("token-dialog").close());
byId("token-dialog").addEventListener("close", () => {
  answerToken?.(Boolean(token.get()));
  answerToken = null;
  render();
  drawer.unlocked();
});
byId("token-button").addEventListener("click", () => {
  if (token.get()) {
    token.set("");
    render();
    drawer.unlocked();
  } else askToken();
});
byId("reload-button").addEventListener("click", reload);

// --- which route is open is in the address, so that it survives a reload of the page ------------------------------

function open(name) {
  history.replaceState(null, "", name ? `#route=${encodeURIComponent(name)}` : location.pathname);
  show();
}

function show() {
  const given = new URLSearchParams(location.hash.slice(1));
  if (given.has("token")) {
    token.set(given.get("token"));
    given.delete("token");
    // Out of the address: it would stay in the history.
    history.replaceState(null, "", given.size ? `#${given}` : location.pathname);
  }
  drawer.open(given.get("route"));
  render();
}

window.addEventListener("hashchange", show);
window.addEventListener("keydown", (event) => {
  if (event.key === "Escape" && !byId("token-dialog").open) open(null);
});
show();
listen();
