// Which part of the page is shown, and who has signed in.

import * as api from "./api.js";
import { Cameras } from "./cameras.js";
import { byId } from "./dom.js";
import { Labelling } from "./label.js";

const EVERY_MS = 1000;
const VIEWS = ["cameras", "label"];

let cameras, labelling, kind = "";
let isBackground = false; // whether the notice is about what the page asks by itself

function say(text, byItself = false) {
  isBackground = byItself;
  byId("notice").textContent = text;
  byId("notice").hidden = !text;
}

function signIn() {
  byId("sign-in").hidden = false;
  byId("nav").hidden = true;
  for (const view of VIEWS) byId(view).hidden = true;
}

function shown() {
  const asked = location.hash.slice(1);
  if (kind === "dataset") return "label";
  return VIEWS.includes(asked) ? asked : "cameras";
}

async function show() {
  if (!byId("sign-in").hidden) return;
  const view = shown();
  for (const other of VIEWS) {
    byId(other).hidden = other !== view;
    const link = byId(`to-${other}`);
    if (other === view) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  labelling.isShown = view === "label";
  if (view === "label") await attempt(() => labelling.load());
}

// Runs what may fail; what failed is said at the top of the page. What the page asks by itself every
// second takes back what it said itself, not what somebody who did something is still to read.
async function attempt(what, byItself = false) {
  try {
    const found = await what();
    if (!byItself || isBackground) say("");
    return found;
  } catch (error) {
    if (!(error instanceof api.Refused)) throw error;
    if (error.status === 401) signIn();
    else say(error.message, byItself);
    return null;
  }
}

async function turn() {
  if (document.visibilityState === "visible" && byId("sign-in").hidden) {
    await attempt(async () => {
      if (shown() === "cameras") cameras.update(await api.status());
      else await labelling.turn();
    }, true);
  }
  setTimeout(turn, EVERY_MS);
}

async function begin() {
  const status = await api.status();
  kind = status.kind;
  byId("name").textContent = status.name;
  document.title = `${status.name} · Transom`;
  byId("sign-in").hidden = true;
  byId("nav").hidden = false;
  byId("to-cameras").hidden = kind === "dataset";
  if (kind === "device") cameras.update(status);
  await show();
}

async function start() {
  cameras = new Cameras(byId("cameras"), attempt);
  labelling = new Labelling(byId("label"), attempt);
  const token = location.hash.slice(1);
  let refused = "";
  if (token && !VIEWS.includes(token)) {
    history.replaceState(null, "", location.pathname);
    try {
      await api.open(token);
    } catch (error) {
      if (!(error instanceof api.Refused)) throw error;
      refused = error.message;
    }
  }
  try {
    await api.resume();
    await begin();
  } catch (error) {
    if (!(error instanceof api.Refused)) throw error;
    signIn();
    if (refused || error.status !== 401) say(refused || error.message);
  }
  turn();
}

byId("token-form").addEventListener("submit", async (event) => {
  event.preventDefault();
  try {
    await api.open(byId("token").value.trim());
    byId("token").value = "";
    say("");
    await begin();
  } catch (error) {
    if (!(error instanceof api.Refused)) throw error;
    say(error.message);
  }
});
byId("leave").addEventListener("click", async () => {
  await attempt(api.leave);
  signIn();
});
addEventListener("hashchange", show);
start();
