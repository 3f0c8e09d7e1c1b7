// Talking to the bridge: requests with the token, and event streams.

const KEY = "nats-bridge-token";

export const token = {
  get: () => sessionStorage.getItem(KEY) ?? "",
  set: (value) => (value ? sessionStorage.setItem(KEY, value) : sessionStorage.removeItem(KEY)),
};

export class ApiError extends Error {
  constructor(status, problem) {
    super(problem.detail || problem.title || `HTTP status ${status}`);
    this.status = status;
    this.problem = problem;
  }
}

function headers(value = token.get()) {
  return value ? {Authorization: `Bearer ${value}`} : {};
}

function unreachable() {
  throw new ApiError(0, {title: "The bridge does not answer."});
}

/** The JSON of a path; a body makes it a POST. */
export async function call(path, {body, using} = {}) {
  const options = body === undefined ? {} : {method: "POST", body: JSON.stringify(body)};
  const response = await fetch(path, {...options, headers: headers(using), cache: "no-store"}).catch(unreachable);
  const content = await response.json().catch(() => ({}));
  if (!response.ok) throw new ApiError(response.status, content);
  return content;
}

/**
 * Read an event stream until the signal ends it; connects again by itself when *again* is true.
 * EventSource would not do: it cannot send the token.
 */
export async function stream(path, {onEvent, onOpen = () => {}, onLost = () => {}, signal, again = true}) {
  let wait = 500;
  while (!signal.aborted) {
    try {
      const response = await fetch(path, {headers: headers(), cache: "no-store", signal}).catch(unreachable);
      if (!response.ok) throw new ApiError(response.status, await response.json().catch(() => ({})));
      onOpen();
      wait = 500;
      await read(response.body, onEvent).catch(unreachable);
      onLost(new ApiError(0, {title: "The bridge has ended the connection."}));
    } catch (error) {
      if (signal.aborted) return;
      onLost(error);
    }
    if (!again) return;
    await new Promise((resolve) => setTimeout(resolve, wait));
    wait = Math.min(wait * 1.6, 5000);
  }
}

async function read(body, onEvent) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let buffer = "";
  for (;;) {
    const {value, done} = await reader.read();
    if (done) return;
    buffer += value;
    for (let end; (end = buffer.indexOf("\n\n")) >= 0; buffer = buffer.slice(end + 2)) {
      const fields = {};
      for (const line of buffer.slice(0, end).split("\n")) {
        const colon = line.indexOf(": ");
        if (colon > 0) fields[line.slice(0, colon)] = line.slice(colon + 2);
      }
      if (fields.data) onEvent(fields.event, JSON.parse(fields.data));
    }
  }
}
