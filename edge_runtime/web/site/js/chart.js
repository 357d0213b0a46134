// The last hour of a zone: the filter's probabilities as lines, what was told as a band below; and its last day.

import { draw, duration, tone } from "./dom.js";

const WIDTH = 600, HEIGHT = 120, BOTTOM = 18, BAND = 8, LEAST_S = 60, HOUR_S = 3600;
const DAY_HEIGHT = 16, DAY_S = 24 * HOUR_S, MARK_S = 6 * HOUR_S;

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

// Draws which states the zone had over the last day, a mark every six hours; returns how many seconds that are.
export function drawDay(svg, history) {
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
  for (let age_s = MARK_S; age_s < span_s; age_s += MARK_S) {
    svg.append(draw("rect", { x: x(age_s), width: 1, height: DAY_HEIGHT, class: "fmark" }));
  }
  return span_s;
}

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
