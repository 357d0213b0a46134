// Cameras with their health and zones, what each zone shows, its last hour, and corrections.

import * as api from "./api.js";
import { dayInWords, drawDay, drawHistory } from "./chart.js";
import { draw, duration, make, percent, tone } from "./dom.js";
import { ZoneEditor } from "./editor.js";

const HISTORY_MS = 10000;

export class Cameras {
  constructor(place, attempt) {
    this.place = place;
    this.attempt = attempt;
    this.cards = new Map();
  }

  update(status) {
    const known = JSON.stringify(status.cameras.map((c) => [c.name, c.zones.map((z) => [z.name, z.classes])]));
    if (known !== this.known) {
      this.known = known;
      this.cards = new Map(status.cameras.map((camera) => [
        camera.name, new CameraCard(camera, status.keeps_samples, this.attempt),
      ]));
      this.place.replaceChildren(...[...this.cards.values()].map((card) => card.element));
    }
    for (const camera of status.cameras) this.cards.get(camera.name).update(camera);
  }
}

class CameraCard {
  constructor(camera, keepsSamples, attempt) {
    this.name = camera.name;
    this.frame = null;
    this.health = make("span", { class: "badge" });
    this.image = make("img", { alt: `What camera ${camera.name} sees now`, hidden: true });
    this.none = make("p", { class: "none" }, "no picture yet");
    this.svg = draw("svg", { viewBox: "0 0 1 1", preserveAspectRatio: "none", "aria-hidden": "true" });
    this.view = make("div", { class: "view" }, this.image, this.svg, this.none);
    this.zones = camera.zones.map((zone) => new ZoneCard(zone, keepsSamples, attempt));
    this.editor = new ZoneEditor(camera.name, this.view, this.svg, attempt);
    this.image.addEventListener("load", () => { this.image.hidden = false; this.none.hidden = true; });
    this.element = make("article", { class: "card" },
      make("div", { class: "row apart" }, make("h2", {}, camera.name), this.health),
      make("div", { class: "camera" },
        make("div", {}, this.view, this.editor.result, this.editor.bar),
        make("div", {}, this.zones.map((zone) => zone.element))));
  }

  update(camera) {
    const [text, tint] = health(camera);
    this.health.textContent = text;
    this.health.className = `badge ${tint}`;
    if (camera.frame !== null && camera.frame !== this.frame) {
      this.frame = camera.frame;
      this.image.src = api.cameraPicture(camera.name, camera.frame);
    }
    this.editor.show(camera.zones);
    camera.zones.forEach((zone, index) => this.zones[index].update(zone));
  }
}

function health(camera) {
  if (camera.problem) return [camera.problem === "gone" ? "no picture" : camera.problem, "bad"];
  if (!camera.online) return ["starting", "warn"];
  if (camera.frame_age_s > 10) return [`last picture ${duration(camera.frame_age_s)} ago`, "warn"];
  return ["in order", "good"];
}

class ZoneCard {
  constructor(zone, keepsSamples, attempt) {
    this.name = zone.name;
    this.attempt = attempt;
    this.classes = zone.classes;
    this.drawn_ms = 0;
    this.state = make("span", { class: "state" });
    this.about = make("p", { class: "soft small" });
    this.taught = make("p", { class: "soft small" });
    this.bars = make("div", { class: "bars" });
    this.chart = draw("svg", { class: "chart", role: "img", "aria-label": `${zone.name} over the last hour` });
    this.day = draw("svg", { class: "day", role: "img", "aria-label": `${zone.name} over the last day` });
    this.hours = draw("svg", { class: "hours", "aria-hidden": "true" });
    this.dayText = make("p", { class: "soft small day-text" });
    this.since = make("span");
    this.began = make("span");
    this.said = make("span", { class: "soft small", role: "status" });
    const buttons = zone.classes.map((name) =>
      make("button", { type: "button", onclick: () => this.correct(name) }, name));
    this.element = make("section", { class: "zone-card" },
      make("div", { class: "row apart" }, make("h3", {}, zone.name), this.state),
      this.about, this.bars, this.chart,
      make("div", { class: "row apart key" }, this.since, make("span", {}, "now")),
      make("div", { class: "key" },
        zone.classes.map((name) => make("span", {}, make("i", { class: `dot c${tone(zone.classes, name)}` }), name)),
        make("span", {}, "thick: filter, thin: network, band: what was told")),
      this.day, this.hours,
      make("div", { class: "row apart key" }, this.began, make("span", {}, "now")),
      this.dayText,
      keepsSamples ? make("div", { class: "row" }, make("span", {}, "It is"), buttons, this.said) : null,
      this.taught);
  }

  update(zone) {
    this.state.textContent = zone.state;
    this.state.className = `state t${tone(zone.classes, zone.state)}`;
    const sure = zone.state === "unknown" ? `because: ${zone.reason}` : `${percent(zone.confidence)} sure`;
    this.about.textContent = zone.for_s === null ? sure : `${sure}, for ${duration(zone.for_s)}`;
    this.bars.replaceChildren(...zone.classes.flatMap((name, index) => this.bar(zone, name, index)));
    this.taught.textContent = taughtText(zone.taught);
    if (Date.now() - this.drawn_ms > HISTORY_MS) {
      this.drawn_ms = Date.now();
      this.attempt(async () => {
        const history = await api.history(this.name);
        const span_s = drawHistory(this.chart, history);
        this.began.textContent = `${duration(drawDay(this.day, this.hours, history))} ago`;
        this.dayText.textContent = dayInWords(history);
        this.since.textContent = `${duration(span_s)} ago`;
      }, true);
    }
  }

  bar(zone, name, index) {
    const share = zone.now?.judged ? zone.now.judged[index] : 0;
    return [
      make("span", {}, name),
      draw("svg", { viewBox: "0 0 100 8", preserveAspectRatio: "none", "aria-hidden": "true" },
        draw("rect", { width: 100, height: 8, class: "fline" }),
        draw("rect", { width: 100 * share, height: 8, class: `f${tone(zone.classes, name)}` })),
      make("span", {}, zone.now?.judged ? percent(share) : "–"),
    ];
  }

  async correct(name) {
    this.said.textContent = "";
    const done = await this.attempt(async () => { await api.correct(this.name, name); return true; });
    if (done) this.said.textContent = `${name}: learnt from its next picture`;
  }
}

function taughtText(taught) {
  if (!taught) return "";
  const count = Object.entries(taught.examples).map(([name, n]) => `${n} × ${name}`).join(", ");
  if (taught.is_used) return `Taught by ${count}.`;
  const why = {
    few: "it takes two labels that exclude each other",
    examples: "it would be worse on these",
    guard: "it would be worse on pictures of other places",
  }[taught.reason];
  return `Taught by ${count}; not used yet: ${why}.`;
}
