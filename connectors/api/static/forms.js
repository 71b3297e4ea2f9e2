// Forms that do something are sent in place, once, and say what came of it beside their button. What cannot be taken
// back is asked about first. Without this script they are sent as any form is, and the answers are pages.
"use strict";

const PATIENCE_FORM_MS = 15000;
// A second click this soon after the answer is the other half of a double click.
const HOLD_MS = 800;
// What was done shows on the page by then.
const SHOWN_MS = 10000;
const busy = new WeakSet();
const pressed = new WeakMap(); // form -> the button that did something, and when
// Kept while this page is open and never stored, so that a token is typed once.
let token = "";

function tell(form, mood, words) {
  let done = form.querySelector(".done");
  if (!done) {
    done = document.createElement("span");
    done.className = "done";
    done.setAttribute("role", "status");
    form.append(done);
  }
  done.dataset.mood = mood;
  done.textContent = words;
}

// The field that an answer is about: "name: what is wrong" names it; without a valid token it is the token.
function fieldOf(form, status, words) {
  if (status === 401) return form.elements.token;
  const name = /^([a-z_]+): /.exec(words)?.[1];
  return name ? form.elements[name] : undefined;
}

async function inWords(answer) {
  const text = await answer.text();
  try {
    const { detail } = JSON.parse(text);
    return typeof detail === "string" ? detail : detail.map((one) => `${one.loc.at(-1)}: ${one.msg}`).join("; ");
  } catch {
    return text.slice(0, 500) || `the server answers with error ${answer.status}`;
  }
}

// Asks whether the reader is sure; the button that changes nothing has the focus.
function sure(question, yes) {
  return new Promise((resolve) => {
    const dialog = document.createElement("dialog");
    const form = document.createElement("form");
    const words = document.createElement("p");
    const no = document.createElement("button");
    const go = document.createElement("button");
    form.method = "dialog";
    words.id = "sure-words";
    words.textContent = question;
    dialog.setAttribute("aria-labelledby", words.id);
    [no.value, no.textContent] = ["no", "Cancel"];
    [go.value, go.textContent, go.className] = ["yes", yes, "risky"];
    no.autofocus = true;
    const buttons = document.createElement("div");
    buttons.className = "actions";
    buttons.append(no, go);
    form.append(words, buttons);
    dialog.append(form);
    document.body.append(dialog);
    dialog.addEventListener("close", () => {
      resolve(dialog.returnValue === "yes");
      dialog.remove();
    });
    dialog.showModal();
  });
}

function post(form, filled) {
  return fetch(form.getAttribute("action"), {
    method: "POST",
    body: new URLSearchParams(filled),
    signal: AbortSignal.timeout(PATIENCE_FORM_MS),
  });
}

// Sends a form and says what came of it; returns whether it was done.
async function send(form, filled, button) {
  tell(form, "", "sending …");
  let answer = await post(form, filled);
  if (answer.status === 409 && answer.headers.get("content-type")?.includes("json")) {
    const asked = await answer.clone().json();
    if (asked.sure) {
      tell(form, "", "not sent yet");
      if (!(await sure(asked.detail, asked.sure))) {
        tell(form, "", "nothing was done");
        button?.focus();
        return false;
      }
      filled.set("sure", "yes");
      answer = await post(form, filled);
    }
  }
  if (!answer.ok) {
    const words = answer.status === 401 ? "a valid token is needed: this one is mistyped, unknown, expired or revoked" : await inWords(answer);
    const field = fieldOf(form, answer.status, words);
    tell(form, "bad", words);
    field?.setAttribute("aria-invalid", "true");
    field?.focus();
    return false;
  }
  if (filled.get("token")) token = filled.get("token");
  if (!document.getElementById("live")) {
    location.assign(answer.url); // nothing here would show what came of it
    return true;
  }
  tell(form, "good", "done, shows in a moment");
  for (const name of ["text", "to"]) {
    if (form.elements[name]) form.elements[name].value = "";
  }
  setTimeout(() => {
    if (form.querySelector(".done")?.dataset.mood === "good") tell(form, "", "");
  }, SHOWN_MS);
  window.renew?.();
  return true;
}

document.addEventListener("submit", async (event) => {
  const form = event.target;
  if (form.getAttribute("method") !== "post") return;
  event.preventDefault();
  const last = pressed.get(form);
  if (busy.has(form) || (last?.button === event.submitter && performance.now() - last.at < HOLD_MS)) return;
  busy.add(form);
  const filled = new FormData(form, event.submitter);
  if (filled.has("by")) localStorage.setItem("by", filled.get("by"));
  for (const field of form.querySelectorAll("[aria-invalid]")) field.removeAttribute("aria-invalid");
  try {
    const done = await send(form, filled, event.submitter);
    if (done) pressed.set(form, { button: event.submitter, at: performance.now() });
  } catch {
    tell(form, "bad", "The server does not answer. Look whether it was done before you try again.");
  }
  busy.delete(form);
});

// Who it is was said before: in a form that is opened or entered it stands already.
function prefill(event) {
  const scope = event.target.closest?.("details, form");
  for (const [name, value] of [["by", localStorage.getItem("by") || ""], ["token", token]]) {
    const field = scope?.querySelector(`form[method=post] [name=${name}], [name=${name}]`);
    if (field && !field.value && field !== document.activeElement) field.value = value;
  }
}
// On a phone the ways are one row that scrolls: the page one is on is in sight.
document.querySelector(".ways [aria-current]")?.scrollIntoView({ inline: "center", block: "nearest" });
document.addEventListener("toggle", prefill, true);
document.addEventListener("focusin", prefill);

document.getElementById("site")?.addEventListener("change", (event) => {
  if (event.target.form.method === "get") event.target.form.requestSubmit();
});
