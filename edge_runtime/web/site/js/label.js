// Pictures to label, a cluster of those that look alike at a time, by keys or by taps.

import * as api from "./api.js";
import { make, moment, percent, tone } from "./dom.js";

const MOST_SHOWN = 12, MOST_CHANGES = 12;
const REASONS = {
  unsure: "unsure", unlike: "unlike training", transition: "at a change", random: "drawn at random",
  taught: "taught", disagrees: "the bundle alone says otherwise",
};

export class Labelling {
  constructor(place, attempt) {
    this.place = place;
    this.attempt = attempt;
    this.query = { labelled: "no" };
    this.skipped = new Set();
    this.undoable = [];
    this.left = new Set(); // pictures of the cluster that a label is not meant for
    this.isShown = false;
    this.isBusy = false;
    addEventListener("keydown", (event) => this.key(event));
  }

  async load() {
    this.found = await api.samples(this.query);
    this.query.task ??= this.found.task ?? "";
    this.paint();
  }

  // While pictures are still being looked at, more come.
  async turn() {
    if (this.found?.waiting && !this.isBusy) await this.load();
  }

  get cluster() {
    return this.found.clusters.find((cluster) => !this.skipped.has(cluster.id)) ?? null;
  }

  // ---------------------------------------------------------------- what somebody does

  key(event) {
    const isTyping = event.target instanceof Element && event.target.matches("input, select, textarea");
    if (!this.isShown || isTyping || event.ctrlKey || event.metaKey || event.altKey || !this.found) return;
    const number = Number(event.key);
    const doing = { s: () => this.skip(), ArrowRight: () => this.skip(), u: () => this.undo(), Backspace: () => this.undo() }[event.key];
    if (doing) { event.preventDefault(); doing(); }
    else if (this.cluster && number >= 1 && number <= this.cluster.classes.length) {
      event.preventDefault();
      this.say(this.cluster.classes[number - 1]);
    }
  }

  skip() {
    const cluster = this.cluster;
    if (cluster === null || this.isBusy) return;
    this.skipped.add(cluster.id);
    this.undoable.push({ skipped: cluster.id });
    this.left.clear();
    this.paint();
  }

  async say(name) {
    const cluster = this.cluster;
    if (cluster === null || this.isBusy) return;
    const ids = cluster.samples.map((sample) => sample.id).filter((id) => !this.left.has(id));
    if (ids.length) await this.send(Object.fromEntries(ids.map((id) => [id, name])), true);
  }

  async undo() {
    const last = this.isBusy ? undefined : this.undoable.pop();
    if (!last) return;
    if (last.skipped) {
      this.skipped.delete(last.skipped);
      this.paint();
    } else if (!await this.send(last.before, false)) this.undoable.push(last);
  }

  async send(labels, canBeUndone) {
    this.isBusy = true;
    const done = await this.attempt(async () => {
      const said = await api.label(this.query.task, labels);
      if (canBeUndone) this.undoable.push({ before: said.before });
      this.lessons = said.lessons;
      this.missing = said.missing.length;
      this.left.clear();
      this.found = await api.samples(this.query);
      return true;
    });
    this.isBusy = false;
    if (done) this.paint();
    return done;
  }

  async forget(ids) {
    await this.attempt(async () => { await api.forget(ids); await this.load(); });
  }

  choose(key, value) {
    this.query[key] = value;
    this.lessons = this.missing = undefined;
    this.attempt(() => this.load());
  }

  toggle(id, button) {
    if (this.left.has(id)) this.left.delete(id);
    else this.left.add(id);
    button.setAttribute("aria-pressed", String(!this.left.has(id)));
  }

  // ---------------------------------------------------------------- what is seen

  paint() {
    const { counts, aside } = this.found;
    const total = counts.samples || 1;
    this.place.replaceChildren(
      make("div", { class: "row apart" },
        make("p", {}, `${counts.labelled} of ${counts.samples} pictures have a label`,
          this.found.waiting ? `; ${this.found.waiting} are still being looked at` : ""),
        make("div", { class: "row" }, this.filters())),
      make("progress", { max: total, value: counts.labelled, "aria-label": "Labelled" }),
      this.cluster ? this.card(this.cluster) : this.end(),
      this.missing ? make("p", { class: "soft small", role: "status" },
        `${this.missing} of those pictures ${this.missing === 1 ? "is" : "are"} not kept any more and got no label.`) : "",
      ...(this.lessons ?? []).map((lesson) => this.lesson(lesson)),
      aside.length ? this.aside(aside) : "");
  }

  filters() {
    const pick = (key, name, values, all) => make("select", { "aria-label": name, onchange: (e) => this.choose(key, e.target.value) },
      all ? make("option", { value: "" }, all) : null,
      values.map((value) => make("option", { value, selected: value === this.query[key] }, value)));
    const shows = make("select", { "aria-label": "Which pictures", onchange: (e) => this.choose("labelled", e.target.value) },
      [["no", "without a label"], ["yes", "with a label"]].map(([value, text]) =>
        make("option", { value, selected: value === this.query.labelled }, text)));
    return [
      this.found.tasks.length > 1 && this.found.task ? pick("task", "Task", this.found.tasks) : null,
      this.found.places.length > 1 ? pick("place", "Place", this.found.places, "all places") : null,
      shows,
    ];
  }

  card(cluster) {
    const first = cluster.samples[0];
    const more = cluster.samples.length - MOST_SHOWN;
    const pictures = cluster.samples.slice(0, MOST_SHOWN).map((sample) => this.picture(sample));
    const buttons = cluster.classes.map((name, index) => make("button", { type: "button", onclick: () => this.say(name) },
      index < 9 ? make("kbd", {}, index + 1) : null, name));
    return make("article", { class: "card" },
      make("div", { class: "row apart" },
        make("h2", {}, cluster.place || "picture"),
        make("span", { class: "soft small" }, `${this.found.total} ${this.found.total === 1 ? "group" : "groups"}`)),
      make("p", {}, "The network says ",
        make("strong", { class: `t${tone(cluster.classes, cluster.says)}` }, cluster.says), `, ${percent(first.confidence)} sure`,
        cluster.label === null ? "" : make("span", {}, "; the label is ", make("strong", {}, cluster.label)),
        cluster.samples.length > 1 ? ". These look alike; tap those that are not to get the label." : ".",
        cluster.copies > cluster.samples.length ? ` ${cluster.copies} like this were seen.` : ""),
      make("div", { class: cluster.samples.length === 1 ? "pictures one" : "pictures" }, pictures),
      more > 0 ? make("p", { class: "soft small" }, `and ${more} more like them`) : null,
      make("div", { class: "sticky" },
        make("div", { class: "classes" }, buttons),
        make("div", { class: "row apart" },
          make("button", { type: "button", class: "quiet", onclick: () => this.skip() }, make("kbd", {}, "S"), "Skip"),
          make("button", { type: "button", class: "quiet", disabled: !this.undoable.length, onclick: () => this.undo() }, make("kbd", {}, "U"), "Undo"))));
  }

  picture(sample) {
    const why = [REASONS[sample.why] ?? sample.why, sample.taken_at ? moment(sample.taken_at) : ""];
    const button = make("button", { type: "button", class: "picture", "aria-pressed": String(!this.left.has(sample.id)),
      onclick: () => this.toggle(sample.id, button) },
      make("img", { src: api.samplePicture(sample.id), alt: `${sample.place}: ${sample.says}` }),
      make("span", {}, why.filter(Boolean).join(", ") || sample.says));
    return button;
  }

  lesson(lesson) {
    const changed = lesson.changes.length;
    const why = { few: "it takes two labels that exclude each other", examples: "it would be worse on what it was taught", guard: "it would be worse on pictures of other places" }[lesson.reason];
    const text = lesson.is_used
      ? `${lesson.place}: learnt. ${changed} of ${lesson.judged} answers are others than before; ${lesson.agree_after} of ${lesson.labelled} labels agree, ${lesson.agree_before} did before.`
      : `${lesson.place}: noted. Nothing is learnt from it yet: ${why}.`;
    return make("aside", { class: "card small" }, make("p", { role: "status" }, text),
      changed ? make("div", { class: "changes" }, lesson.changes.slice(0, MOST_CHANGES).map((change) =>
        make("figure", {}, make("img", { src: api.samplePicture(change.id), alt: "", loading: "lazy" }),
          make("figcaption", {}, `${change.before.says} → ${change.after.says} ${percent(change.after.confidence)}`)))) : null);
  }

  end() {
    const isOpen = this.found.clusters.length > 0;
    const none = this.query.labelled === "no" ? "Nothing waits for a label." : "Nothing has a label.";
    const text = isOpen ? "All that is left was skipped." : none;
    return make("div", { class: "card" }, make("p", {}, text),
      make("div", { class: "row" },
        isOpen ? make("button", { type: "button", onclick: () => { this.skipped.clear(); this.paint(); } }, "Show them again") : null,
        make("button", { type: "button", disabled: !this.undoable.length, onclick: () => this.undo() }, make("kbd", {}, "U"), "Undo")));
  }

  aside(aside) {
    return make("details", { class: "card" },
      make("summary", {}, `${aside.length} set aside: they cannot be labelled here`),
      make("ul", {}, aside.slice(0, 200).map((one) => make("li", {}, `${one.place ? `${one.place}: ` : ""}${one.why}`))),
      this.found.can_forget ? make("button", { type: "button", onclick: () => this.forget(aside.map((one) => one.id)) }, "Delete them") : null);
  }
}
