// The image plane: the grid, the truths, the boxes that the selected cell predicts, and a mark for every predictor.

import { decode } from "../../adapters/examples/javascript/region_loss_boxes.mjs";
import { h } from "./draw.mjs";
import { about, short } from "./reasons.mjs";
import { indexOf } from "./state.mjs";

const SIDE = 600; // of the longer side of the image, in units of the drawing
const MARGIN = 70; // a box may reach beyond the image

/** The size of a cell in units of the drawing. */
const unit = (state) => SIDE / Math.max(state.width, state.height);

/** The letter of a state, so that no one needs its colour. */
export const LETTERS = { responsible: "R", ignored: "I", "no-object": "N" };

/** A point of the drawing as fractions of the image. */
export function fractions(state, { x, y }) {
  return { x: x / unit(state) / state.width, y: y / unit(state) / state.height };
}

/** The box of a truth or of a predictor, as fractions of the image. */
export function boxOf(state, drag) {
  if (drag.truth !== undefined) {
    const [x, y, w, h] = state.truths[drag.truth];
    return { x, y, w, h };
  }
  const place = { ...state.selected, anchor: drag.anchor };
  const inputs = { ...state, t: state.predictions, index: (where, channel) => indexOf(state, where, channel) };
  return decode(inputs, place);
}

/** The whole drawing; `result` is null where the loss refuses the input. */
export function plane(state, result, profile) {
  const [width, height] = [state.width * unit(state), state.height * unit(state)];
  const label = `Image with a grid of ${state.height} rows and ${state.width} columns, ${state.truths.length} truths.`;
  return h(
    "svg",
    {
      viewBox: `${-MARGIN} ${-MARGIN} ${width + 2 * MARGIN} ${height + 2 * MARGIN}`,
      role: "application",
      "aria-label": label,
      "aria-describedby": "explorer-help",
      class: "plane",
    },
    h("rect", { class: "image", x: 0, y: 0, width, height }),
    h("g", { class: "cells" }, cells(state)),
    h("g", { class: "truths" }, state.truths.map((_, truth) => truthBox(state, truth))),
    h("g", { class: "predicted-boxes" }, state.anchors.map((_, anchor) => predictedBox(state, anchor, result, profile))),
    h("g", { class: "marks" }, result && marks(state, result, profile)),
    h("g", { class: "arrows" }, result && arrows(state, result)),
    h("g", { class: "tags", "aria-hidden": "true" }, tags(state, result, profile)),
    h("g", { class: "handles" }, handles(state)),
  );
}

function* places(state) {
  for (let row = 0; row < state.height; row++) {
    for (let column = 0; column < state.width; column++) yield { row, column };
  }
}

function cells(state) {
  const size = unit(state);
  return [...places(state)].map(({ row, column }) => {
    const own = row === state.selected.row && column === state.selected.column;
    return h("rect", {
      class: own ? "cell own" : "cell",
      x: column * size,
      y: row * size,
      width: size,
      height: size,
      role: "button",
      "aria-pressed": String(own),
      "aria-label": `Cell row ${row}, column ${column}`,
      // One stop of the Tab key for the whole grid; the arrow keys go from cell to cell.
      tabindex: own ? 0 : -1,
      "data-cell": `${row} ${column}`,
    });
  });
}

/** In each cell a mark for each anchor: a disc R, a diamond I, a square N, underlined where the prior is paid. */
function marks(state, result, profile) {
  const size = unit(state);
  const step = Math.min(30, (size - 8) / state.anchors.length);
  const radius = step * 0.4;
  return [...places(state)].flatMap(({ row, column }) =>
    state.anchors.map((_, anchor) => {
      const told = about(result, profile, { anchor, row, column });
      const at = state.selected;
      const chosen = at.anchor === anchor && at.row === row && at.column === column;
      const [x, y] = [column * size + 4 + (anchor + 0.5) * step, (row + 1) * size - 6 - radius];
      const shape = {
        responsible: () => h("circle", { cx: x, cy: y, r: radius }),
        ignored: () => h("path", { d: `M${x} ${y - radius * 1.2}l${radius * 1.2} ${radius * 1.2}l${-radius * 1.2} ${radius * 1.2}l${-radius * 1.2} ${-radius * 1.2}z` }),
        "no-object": () => h("rect", { x: x - radius * 0.85, y: y - radius * 0.85, width: radius * 1.7, height: radius * 1.7 }),
      }[told.state]();
      const prior = told.indicators[1].on;
      return h(
        "g",
        { class: `mark ${told.state}${chosen ? " chosen" : ""}`, "data-mark": `${anchor} ${row} ${column}` },
        shape,
        h("text", { x, y: y + radius * 0.45, "font-size": short(radius * 1.25) }, LETTERS[told.state]),
        prior && h("path", { class: "prior", d: `M${x - radius} ${y + radius + 3}h${2 * radius}` }),
      );
    }),
  );
}

function geometry(state, { x, y, w, h: high }) {
  const [across, down] = [state.width * unit(state), state.height * unit(state)];
  return { x: (x - w / 2) * across, y: (y - high / 2) * down, width: w * across, height: high * down };
}

/** Whether a box can be drawn at all: typed numbers may be anything, and a size may overflow. */
const drawable = (box) => Object.values(box).every((value) => Math.abs(value) < 1000);

const where = ({ x, y, w, h: high }) => `centre ${short(x)}, ${short(y)}, size ${short(w)} by ${short(high)} of the image`;

function truthBox(state, truth) {
  const box = boxOf(state, { truth });
  if (!drawable(box)) return h("g", {});
  const at = geometry(state, box);
  return h(
    "g",
    {
      class: "truth",
      role: "button",
      tabindex: 0,
      "data-truth": truth,
      "aria-label": `Truth ${truth}, class ${state.truths[truth][4]}: ${where(box)}`,
    },
    h("rect", { class: "hit", ...at }),
    h("rect", { class: "line", ...at }),
  );
}

function predictedBox(state, anchor, result, profile) {
  const box = boxOf(state, { anchor });
  if (!drawable(box)) return h("g", {});
  const at = geometry(state, box);
  const told = result && about(result, profile, { ...state.selected, anchor });
  const chosen = anchor === state.selected.anchor;
  const centre = { cx: at.x + at.width / 2, cy: at.y + at.height / 2 };
  const said = told ? `, ${told.state}` : "";
  return h(
    "g",
    {
      class: `predicted ${told?.state ?? ""}${chosen ? " chosen" : ""}`,
      role: "button",
      tabindex: 0,
      "data-anchor": anchor,
      "aria-pressed": String(chosen),
      "aria-label": `Predicted box of anchor ${anchor}${said}: ${where(box)}`,
    },
    h("rect", { class: "hit", ...at }),
    h("rect", { class: "line", ...at }),
    h("circle", { class: "centre", ...centre, r: 5 }),
  );
}

/** The names of the boxes, which stand above all else: a truth's at its upper right, a prediction's at its lower left. */
function tags(state, result, profile) {
  const tag = (box, text, attributes) => drawable(box) && h("text", { class: "tag", ...attributes }, text);
  const truths = state.truths.map((_, truth) => {
    const box = boxOf(state, { truth });
    const { x, y, width } = geometry(state, box);
    return tag(box, `truth ${truth}`, { x: x + width - 4, y: y - 5, "text-anchor": "end" });
  });
  const predicted = state.anchors.map((_, anchor) => {
    const box = boxOf(state, { anchor });
    const { x, y, height } = geometry(state, box);
    const told = result && about(result, profile, { ...state.selected, anchor });
    const chosen = anchor === state.selected.anchor ? " chosen" : "";
    const text = `anchor ${anchor}${told ? ` ${LETTERS[told.state]}` : ""}`;
    return tag(box, text, { x: x + 4, y: y + height - 6, class: `tag of-anchor ${told?.state ?? ""}${chosen}` });
  });
  return [...truths, ...predicted];
}

/** Where a step against the gradient takes the selected box: its centre, its right side and its lower side. */
function arrows(state, result) {
  const box = boxOf(state, { anchor: state.selected.anchor });
  if (!drawable(box)) return [];
  const [tx, ty, tw, th] = [0, 1, 2, 3].map((channel) => -result.gradient[indexOf(state, state.selected, channel)]);
  const { x, y, width, height } = geometry(state, box);
  return [
    arrow("centre", x + width / 2, y + height / 2, tx, ty),
    arrow("width", x + width, y + height / 2, tw, 0),
    arrow("height", x + width / 2, y + height, 0, th),
  ];
}

function arrow(name, x, y, dx, dy) {
  const strength = Math.hypot(dx, dy);
  if (!(strength > 0 && Number.isFinite(strength))) return h("g", {});
  const length = 20 + (60 * strength) / (strength + 0.5); // longer, but bounded: gradients differ by thousands
  const [ux, uy] = [dx / strength, dy / strength];
  const [tipX, tipY] = [x + ux * length, y + uy * length];
  const [baseX, baseY] = [tipX - ux * 13, tipY - uy * 13];
  const head = `M${tipX} ${tipY}L${baseX - uy * 7} ${baseY + ux * 7}L${baseX + uy * 7} ${baseY - ux * 7}z`;
  return h(
    "g",
    { class: "arrow", "data-arrow": name },
    h("path", { class: "halo", d: `M${x} ${y}L${baseX} ${baseY}` }),
    h("path", { d: `M${x} ${y}L${baseX} ${baseY}` }),
    h("path", { class: "head", d: head }),
  );
}

/** What a box is resized by: the lower right corner of a truth, the upper left one of the selected predicted box. */
function handles(state) {
  const handle = (drag, box, right) => {
    if (!drawable(box)) return h("g", {});
    const { x, y, width, height } = geometry(state, box);
    const [cornerX, cornerY] = right ? [x + width, y + height] : [x, y];
    return h(
      "g",
      { class: "handle", "data-resize": "", ...drag },
      h("rect", { class: "hit", x: cornerX - 16, y: cornerY - 16, width: 32, height: 32 }),
      h("rect", { class: "knob", x: cornerX - 6, y: cornerY - 6, width: 12, height: 12 }),
    );
  };
  const { anchor } = state.selected;
  return [
    ...state.truths.map((_, truth) => handle({ "data-truth": truth }, boxOf(state, { truth }), true)),
    handle({ "data-anchor": anchor }, boxOf(state, { anchor }), false),
  ];
}
