// Renews the live part of the page every two seconds (long lists: five), changing only what changed: scroll
// positions, focus and selected text stay. Says so when the server is gone.
"use strict";

const PATIENCE_MS = 8000;
const live = document.getElementById("live");
const EVERY_MS = Number(live.dataset.every || 2000);
const link = document.getElementById("link");
const gone = document.getElementById("gone");
const pause = document.getElementById("pause");
let paused = false;
let renewing = false;
let timer = 0;
let lostAt = 0;

function keyOf(node) {
  return node.nodeType === Node.ELEMENT_NODE ? node.dataset.key : undefined;
}

function alike(a, b) {
  return a.nodeType === b.nodeType && a.nodeName === b.nodeName && keyOf(a) === keyOf(b);
}

function matchAttributes(from, to) {
  for (const { name, value } of to.attributes) {
    if (from.getAttribute(name) !== value) from.setAttribute(name, value);
  }
  for (const { name } of [...from.attributes]) {
    // What its reader opened stays open, and what was wrong with a field stays told.
    if (!to.hasAttribute(name) && name !== "open" && name !== "aria-invalid") from.removeAttribute(name);
  }
}

// Makes the children of `from` those of `to`; what has a data-key is found again wherever it stands.
function matchChildren(from, to) {
  const wanted = [...to.childNodes];
  const keys = new Set(wanted.map(keyOf).filter((key) => key !== undefined));
  const keyed = new Map();
  for (const child of [...from.children]) {
    const key = keyOf(child);
    if (key === undefined) continue;
    if (keys.has(key)) keyed.set(key, child);
    else child.remove();
  }
  let at = from.firstChild;
  for (const node of wanted) {
    const key = keyOf(node);
    const found = key === undefined ? at : keyed.get(key);
    // What has no key makes room: moving what has one would lose its scroll position and selection.
    while (key !== undefined && found && at && at !== found && keyOf(at) === undefined) {
      const next = at.nextSibling;
      at.remove();
      at = next;
    }
    if (!found || !alike(found, node)) {
      from.insertBefore(document.importNode(node, true), at);
      continue;
    }
    if (found === at) at = at.nextSibling;
    else from.insertBefore(found, at);
    // What is kept says what became of the reader's own doing.
    if (node.nodeType === Node.ELEMENT_NODE && node.dataset.keep !== undefined) continue;
    if (node.nodeType === Node.ELEMENT_NODE) {
      matchAttributes(found, node);
      matchChildren(found, node);
    } else if (found.data !== node.data) {
      found.data = node.data;
    }
  }
  while (at) {
    const next = at.nextSibling;
    at.remove();
    at = next;
  }
}

function clock(ms) {
  return new Date(ms).toISOString().slice(11, 19) + " UTC";
}

function say(state, words) {
  document.body.className = state;
  if (link.textContent !== words) link.textContent = words;
}

function lost(reason) {
  if (!lostAt) lostAt = Date.now();
  const shown = live.querySelector("[data-now]");
  const words = `${reason} What you see is from ${shown ? clock(Number(shown.dataset.now)) : "before"}. Trying again.`;
  if (gone.textContent !== words) gone.textContent = words;
  gone.hidden = false;
  say("lost", `no answer since ${clock(lostAt)}`);
}

async function renew() {
  if (renewing) return;
  renewing = true;
  clearTimeout(timer);
  try {
    const from = live.dataset.from;
    const answer = await fetch(from.includes("?") ? from : from + location.search, {
      cache: "no-store",
      signal: AbortSignal.timeout(PATIENCE_MS),
    });
    if (answer.ok) {
      matchChildren(live, new DOMParser().parseFromString(await answer.text(), "text/html").body);
      lostAt = 0;
      gone.hidden = true;
      if (!paused) say("fresh", "live");
    } else {
      const told = (await answer.text()).slice(0, 300);
      lost(`The server answers with error ${answer.status}${told.startsWith("{") ? "" : `: ${told}`}.`);
    }
  } catch {
    lost("The server does not answer.");
  }
  renewing = false;
  plan();
}

function plan() {
  clearTimeout(timer);
  if (!paused && !document.hidden) timer = setTimeout(renew, EVERY_MS);
}

pause.addEventListener("click", () => {
  paused = !paused;
  pause.textContent = paused ? "Go on" : "Pause";
  if (paused) {
    clearTimeout(timer);
    say("paused", "paused");
  } else {
    renew();
  }
});
document.addEventListener("visibilitychange", () => {
  if (!document.hidden && !paused) renew();
});

pause.hidden = false;
say("fresh", "live");
plan();
