// The last hour of a zone: the filter's probabilities as lines, what was told as a band below; and its last day.

import { draw, duration, tone } from "./dom.js";

const WIDTH = 600, HEIGHT = 120, BOTTOM = 18, BAND = 8, LEAST_S = 60, HOUR_S = 3600;
const DAY_HEIGHT = 16, DAY_S = 24 * HOUR_S, MARK_H = 6;

// Draws what there is of the last hour; returns how many seconds that are.
export function drawHistory(svg, history) {
  svg.replaceChildren();
  svg.setAttribute("viewBox", `0 0 ${WIDTH} ${HEIGHT}`);
  svg.setAttribute("preserveAspectRatio", "none");
  const span_s = Math.min(Math.max(history.moments[0]?.age_s ?? 0, LEAST_S), HOUR_S);
  const x = (age_s) => WIDTH * (1 - Math.min(age_s, span_s) / span_s);
  const y = (p) => 4 + (HEIGHT - BOTTOM - 4) * (1 - p);
  for (const p of [0, 0.5, 1]) {
    svg.append(
      draw("rect", { x: 0, y: y(p), width: WIDTH, height: 1, class: "fline" }),
    );
  }
  const { classes, moments } = history;
  classes.forEach((name, index) => {
    const judged = pieces(moments, (m) => (m.judged ? m.judged[index] : null));
    for (const piece of judged) svg.append(line(piece, x, y, classes, name, "0.35", "1"));
    const filter = pieces(moments, (m) => m.filter[index]);
    for (const piece of filter) svg.append(line(piece, x, y, classes, name, "1", "2.5"));
  });
  moments.forEach((moment, index) => {
    const until = index + 1 < moments.length ? moments[index + 1].age_s : 0;
    const from = x(moment.age_s);
    svg.append(draw("rect", {
      x: from, y: HEIGHT - BOTTOM + 8, height: BAND, width: Math.max(x(until) - from, 1) + 0.7,
      class: `f${tone(classes, moment.state)}`,
    }));
  });
  return span_s;
}

// Draws which states the zone had over the last day, with marks at 0, 6, 12 and 18 o'clock of this browser, and their
// times into a second drawing; returns how many seconds that are.
export function drawDay(svg, hours, history) {
  svg.replaceChildren();
  svg.setAttribute("viewBox", `0 0 ${WIDTH} ${DAY_HEIGHT}`);
  svg.setAttribute("preserveAspectRatio", "none");
  const { classes, day } = history;
  const span_s = Math.min(Math.max(day[0]?.age_s ?? 0, HOUR_S), DAY_S);
  const x = (age_s) => WIDTH * (1 - Math.min(age_s, span_s) / span_s);
  svg.append(draw("rect", { width: WIDTH, height: DAY_HEIGHT, class: "fline" }));
  day.forEach(({ age_s, state }, index) => {
    const until_s = index + 1 < day.length ? day[index + 1].age_s : 0;
    const shown = draw("rect", {
      x: x(age_s), height: DAY_HEIGHT, width: Math.max(x(until_s) - x(age_s), 1), class: `f${tone(classes, state)}`,
    }, draw("title", {}, `${state}, ${duration(age_s)} ago, for ${duration(age_s - until_s)}`));
    svg.append(shown);
  });
  hours.replaceChildren();
  for (const [age_s, at] of marks(span_s)) {
    svg.append(draw("rect", { x: x(age_s), width: 1, height: DAY_HEIGHT, class: "fmark" }));
    hours.append(draw("text", { x: `${(100 * x(age_s)) / WIDTH}%`, y: 10, "text-anchor": "middle" }, clock(at)));
  }
  return span_s;
}

// Says how often and how long the zone was in each state but closed; empty where it was in none, or knows no closed.
export function dayInWords({ classes, day }) {
  if (!classes.includes("closed")) return "";
  const now = Date.now();
  const said = classes.filter((name) => name !== "closed").map((name) => {
    const times = timesOf(name, day);
    if (times.length === 0) return null;
    const often = times.length === 1 ? "once" : `${times.length} times`;
    const total_s = times.reduce((sum, { in_s }) => sum + in_s, 0);
    const { since_s } = times.at(-1);
    const last = since_s < DAY_S ? `, last at ${clock(new Date(now - 1000 * since_s))}` : "";
    return `${name} ${often}, ${duration(total_s)}${last}`;
  });
  return said.filter((text) => text !== null).join("; ");
}

// The times in which the zone had a state: how long ago each began, and the seconds that it was seen in it. What is
// unknown in between does not end one.
function timesOf(name, day) {
  const times = [];
  let before = "";
  day.forEach(({ age_s, state }, index) => {
    const until_s = index + 1 < day.length ? day[index + 1].age_s : 0;
    if (state === "unknown" || age_s <= until_s) return; // the latter was over before the day began
    if (state === name && before !== name) times.push({ since_s: age_s, in_s: 0 });
    if (state === name) times.at(-1).in_s += age_s - until_s;
    before = state;
  });
  return times;
}

// The times at which marks stand: [age in seconds, time], none so near an end that its words would be cut.
function marks(span_s) {
  const now = new Date(), found = [];
  for (let hour = 0; hour <= 48; hour += MARK_H) {
    const at = new Date(now.getFullYear(), now.getMonth(), now.getDate() - 1, hour);
    const age_s = (now - at) / 1000;
    if (age_s > 0.03 * span_s && age_s < 0.97 * span_s) found.push([age_s, at]);
  }
  return found;
}

const clock = (time) => time.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });

// Splits where there was no picture, or none was looked at for long.
function pieces(moments, value) {
  const found = [[]];
  for (const moment of moments) {
    const said = value(moment);
    if (said === null) found.push([]);
    else found[found.length - 1].push([moment.age_s, said]);
  }
  return found.filter((piece) => piece.length > 0);
}

function line(points, x, y, classes, name, opacity, width) {
  const path = points.map(([age_s, p], i) => `${i ? "L" : "M"}${x(age_s).toFixed(1)} ${y(p).toFixed(1)}`);
  return draw("path", {
    d: path.join(""), fill: "none", stroke: "currentColor", class: `t${tone(classes, name)}`,
    opacity, "stroke-width": width, "vector-effect": "non-scaling-stroke",
  });
}
