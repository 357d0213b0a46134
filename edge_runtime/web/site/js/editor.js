// Zones over a camera's picture: shown, and drawn and dragged as quadrilaterals.

import * as api from "./api.js";
import { draw, make, percent, tone } from "./dom.js";

const STEP = 0.01, FINE = 0.002, LEAST_AREA = 1e-4;
const KINDS = ["door", "window", "garage_door", "opening"];
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

export class ZoneEditor {
  constructor(camera, view, svg, attempt) {
    this.camera = camera;
    this.view = view;
    this.svg = svg;
    this.attempt = attempt;
    this.zones = [];
    this.drawn = null; // what is being drawn; null = nothing is
    this.chosen = 0;
    this.marks = [];
    this.bar = make("div", { class: "row small tools" });
    this.result = make("div");
    this.bar.append(make("button", { type: "button", onclick: () => this.edit() }, "Draw zones"));
    svg.addEventListener("pointerdown", (event) => this.grab(event));
  }

  show(zones) {
    this.zones = zones;
    if (this.drawn === null) this.paint();
  }

  edit() {
    this.drawn = this.zones.map((zone) => ({
      name: zone.name, device_class: zone.device_class, isNew: false,
      polygon: zone.polygon.map(([x, y]) => [x, y]),
    }));
    this.chosen = 0;
    this.result.replaceChildren();
    this.tools();
    this.paint();
  }

  end() {
    this.drawn = null;
    this.bar.replaceChildren(make("button", { type: "button", onclick: () => this.edit() }, "Draw zones"));
    this.paint();
  }

  tools() {
    const zone = this.drawn[this.chosen];
    const names = make("select", { "aria-label": "Zone", onchange: (e) => { this.chosen = Number(e.target.value); this.tools(); this.paint(); } },
      this.drawn.map((one, index) => make("option", { value: index, selected: index === this.chosen }, one.name)));
    const kinds = make("select", { "aria-label": "What it is", onchange: (e) => { zone.device_class = e.target.value; } },
      KINDS.map((kind) => make("option", { value: kind, selected: kind === zone.device_class }, kind.replace("_", " "))));
    const name = make("input", { "aria-label": "Name", value: zone.name, pattern: "[a-z0-9][a-z0-9_]*", size: 12, hidden: !zone.isNew,
      oninput: (e) => { zone.name = e.target.value; this.paint(); } });
    this.save = make("button", { type: "button", class: "first", onclick: () => this.send() }, "Save");
    this.bar.replaceChildren(make("label", {}, "Zone ", names), name, make("label", {}, "is a ", kinds),
      make("button", { type: "button", onclick: () => this.add() }, "Add"),
      make("button", { type: "button", disabled: this.drawn.length < 2, onclick: () => this.remove() }, "Remove"),
      this.save,
      make("button", { type: "button", class: "quiet", onclick: () => { this.result.replaceChildren(); this.end(); } }, "Cancel"));
  }

  add() {
    let number = this.drawn.length + 1;
    while (this.drawn.some((zone) => zone.name === `zone_${number}`)) number += 1;
    this.drawn.push({ name: `zone_${number}`, device_class: "door", isNew: true,
      polygon: [[0.4, 0.3], [0.6, 0.3], [0.6, 0.7], [0.4, 0.7]] });
    this.chosen = this.drawn.length - 1;
    this.tools();
    this.paint();
  }

  remove() {
    this.drawn.splice(this.chosen, 1);
    this.chosen = 0;
    this.tools();
    this.paint();
  }

  async send() {
    const wrong = this.drawn.find((zone) => !isGood(zone.polygon));
    if (wrong) {
      this.result.replaceChildren(make("p", { class: "bad", role: "alert" },
        `${wrong.name} must be convex, its corners clockwise from the top left`));
      return;
    }
    this.save.disabled = true;
    const zones = this.drawn.map(({ name, polygon, device_class }) => ({ name, polygon, device_class }));
    const saved = await this.attempt(() => api.saveZones(this.camera, zones));
    this.save.disabled = false;
    if (saved === null) return;
    this.end();
    this.result.replaceChildren(...(saved.saved
      ? [make("p", { class: "good", role: "status" }, `Saved in ${saved.file}; the daemon begins anew with them.`)]
      : [make("p", { role: "alert" }, `Not saved: ${saved.why}. Put these in place of the camera's zones there, then start the daemon again:`),
        make("pre", { tabindex: 0 }, saved.toml)]));
  }

  // ---------------------------------------------------------------- the picture

  paint() {
    const isEdited = this.drawn !== null;
    const zones = isEdited ? this.drawn : this.zones;
    this.view.classList.toggle("edited", isEdited);
    this.svg.replaceChildren(...zones.map((zone, index) => draw("polygon", {
      points: zone.polygon.map((corner) => corner.join(",")).join(" "),
      class: ["zone", isEdited && index === this.chosen ? "chosen" : "", isGood(zone.polygon) ? "" : "wrong"].join(" "),
      "data-index": index,
    })));
    for (const mark of this.marks) mark.remove();
    this.marks = zones.map((zone) => this.tag(zone, isEdited));
    if (isEdited) this.marks.push(...this.drawn[this.chosen].polygon.map((corner, index) => this.handle(corner, index)));
    this.view.append(...this.marks);
  }

  tag(zone, isEdited) {
    const text = isEdited ? zone.name : `${zone.name}: ${zone.state}`;
    const tag = make("span", { class: "label-tag" },
      isEdited ? null : make("i", { class: `dot c${tone(zone.classes, zone.state)}` }), text);
    const left = Math.min(...zone.polygon.map((corner) => corner[0]));
    const top = Math.min(...zone.polygon.map((corner) => corner[1]));
    const right = Math.max(...zone.polygon.map((corner) => corner[0]));
    place(tag, [left, Math.max(top, 0.09)]);
    if (left > 0.5) { // its text must not leave the picture
      tag.style.left = "auto";
      tag.style.right = `${100 * (1 - right)}%`;
    }
    return tag;
  }

  handle(corner, index) {
    const [x, y] = corner;
    const handle = make("button", {
      type: "button", class: "handle", "data-corner": index,
      "aria-label": `Corner ${index + 1} at ${percent(x)}, ${percent(y)}; arrow keys move it`,
      onpointerdown: (event) => { event.preventDefault(); handle.focus(); this.drag(event, [index]); },
      onkeydown: (event) => this.nudge(event, index),
    });
    place(handle, corner);
    return handle;
  }

  nudge(event, index) {
    const way = ARROWS[event.key];
    if (!way) return;
    event.preventDefault();
    const step = event.shiftKey ? FINE : STEP;
    const corner = this.drawn[this.chosen].polygon[index];
    this.drawn[this.chosen].polygon[index] = [clip(corner[0] + step * way[0]), clip(corner[1] + step * way[1])];
    this.paint();
    this.view.querySelector(`[data-corner="${index}"]`).focus();
  }

  grab(event) {
    const index = event.target.dataset.index;
    if (this.drawn === null || index === undefined) return;
    event.preventDefault();
    if (Number(index) !== this.chosen) {
      this.chosen = Number(index);
      this.tools();
      this.paint();
    }
    this.drag(event, [0, 1, 2, 3]);
  }

  // Moves corners with the pointer, until it is let go.
  drag(event, corners) {
    const box = this.view.getBoundingClientRect();
    const polygon = this.drawn[this.chosen].polygon;
    const before = polygon.map(([x, y]) => [x, y]);
    const start = [event.clientX, event.clientY];
    const move = (now) => {
      let dx = (now.clientX - start[0]) / box.width, dy = (now.clientY - start[1]) / box.height;
      for (const index of corners) {
        dx = Math.min(Math.max(dx, -before[index][0]), 1 - before[index][0]);
        dy = Math.min(Math.max(dy, -before[index][1]), 1 - before[index][1]);
      }
      for (const index of corners) polygon[index] = [round(before[index][0] + dx), round(before[index][1] + dy)];
      this.paint();
    };
    const end = () => {
      removeEventListener("pointermove", move);
      removeEventListener("pointerup", end);
      removeEventListener("pointercancel", end);
    };
    addEventListener("pointermove", move);
    addEventListener("pointerup", end);
    addEventListener("pointercancel", end);
  }
}

function place(element, [x, y]) {
  element.style.left = `${100 * x}%`;
  element.style.top = `${100 * y}%`;
}

const round = (value) => Math.round(value * 1e4) / 1e4;
const clip = (value) => round(Math.min(Math.max(value, 0), 1));

// What transom/geometry.py wants of a zone.
function isGood(polygon) {
  const at = (index) => polygon[index % 4];
  let area = 0;
  for (let i = 0; i < 4; i += 1) {
    const [a, b, c] = [at(i), at(i + 1), at(i + 2)];
    if ((b[0] - a[0]) * (c[1] - b[1]) - (b[1] - a[1]) * (c[0] - b[0]) <= 0) return false;
    area += (a[0] * b[1] - b[0] * a[1]) / 2;
  }
  return area >= LEAST_AREA;
}
