// What a person can do to the state. Each edit answers with a new state, or throws a RangeError that says why not.

import { MOST, indexOf, reshaped } from "./state.mjs";

const EDGE = 0.001; // a centre is below 1, a size above 0, and a drag stops there
const within = (value, least, most) => Math.min(Math.max(value, least), most);
const rounded = (value, digits = 3) => Number(value.toFixed(digits));

function withTruth(state, truth, change) {
  return { ...state, truths: state.truths.map((row, at) => (at === truth ? change(row) : row)) };
}

function withOutputs(state, place, outputs) {
  const predictions = Float64Array.from(state.predictions);
  for (const [channel, value] of Object.entries(outputs)) predictions[indexOf(state, place, Number(channel))] = value;
  return { ...state, predictions };
}

/** The raw output whose logistic is a fraction of the cell. */
const logit = (part) => rounded(Math.log(part / (1 - part)), 4);

/** The state with the centre of a box elsewhere; a predicted centre cannot leave its cell, and no centre the image. */
export function dragged(state, { truth, anchor }, x, y) {
  const centre = [x, y].map((value) => within(rounded(value), 0, 1 - EDGE));
  if (truth !== undefined) return withTruth(state, truth, (row) => [...centre, ...row.slice(2)]);
  const { row, column } = state.selected;
  const [tx, ty] = [x * state.width - column, y * state.height - row].map((part) => logit(within(part, EDGE, 1 - EDGE)));
  return withOutputs(state, { row, column, anchor }, { 0: tx, 1: ty });
}

/** The state with a box of another size about the same centre; `w` and `h` are fractions of the image. */
export function resized(state, { truth, anchor }, w, h) {
  if (truth !== undefined) {
    const sizes = [w, h].map((value) => within(rounded(value), EDGE, 1));
    return withTruth(state, truth, ([x, y, , , label]) => [x, y, ...sizes, label]);
  }
  const [anchorWidth, anchorHeight] = state.anchors[anchor];
  const [tw, th] = [
    Math.log((Math.max(w, EDGE) * state.width) / anchorWidth),
    Math.log((Math.max(h, EDGE) * state.height) / anchorHeight),
  ].map((value) => rounded(value, 4));
  return withOutputs(state, { ...state.selected, anchor }, { 2: tw, 3: th });
}

function read(name, text, least, most, whole) {
  const value = text.trim() === "" ? NaN : Number(text);
  const right = Number.isFinite(value) && value >= least && value <= most && (!whole || Number.isInteger(value));
  if (right) return value;
  const bounds = most === Infinity ? `of at least ${least}` : `from ${least} to ${most}`;
  throw new RangeError(`${name} is ${text || "empty"}, expected a ${whole ? "whole " : ""}number ${bounds}. Nothing was changed.`);
}

const count = (name, text, least, most) => read(name, text, least, most, true);

/** The state after a field was filled in. What the loss itself has to judge, truths and outputs, is taken as typed. */
export function edited(state, set, text, profiles) {
  const [what, ...at] = set.split(" ");
  const places = at.map(Number);
  const number = text.trim() === "" ? NaN : Number(text);
  const selected = (place) => ({ ...state, selected: { ...state.selected, ...place } });
  switch (what) {
    case "profile":
      return { ...state, profile: text, options: {} };
    case "thresh": {
      const thresh = read("the threshold", text, 0, Infinity, false);
      const { thresh: _, ...others } = state.options;
      return { ...state, options: profiles[state.profile].thresh === thresh ? others : { ...others, thresh } };
    }
    case "t":
      return { ...state, imagesSeen: number };
    case "height":
    case "width":
      return reshaped(state, { [what]: count(what === "height" ? "rows" : "columns", text, 1, MOST.side) });
    case "classes":
      return reshaped(state, { classes: count("classes", text, 1, MOST.classes) });
    case "anchor-size": {
      const [k, side] = places;
      const anchors = state.anchors.map((sizes, here) => (here === k ? sizes.with(side, number) : sizes));
      return { ...state, anchors };
    }
    case "row":
      return selected({ row: count("row", text, 0, state.height - 1) });
    case "column":
      return selected({ column: count("column", text, 0, state.width - 1) });
    case "anchor":
      return selected({ anchor: Number(text) });
    case "t-output":
      return withOutputs(state, state.selected, { [places[0]]: number });
    case "truth":
      return withTruth(state, places[0], (row) => row.with(places[1], number));
    default:
      throw new Error(`nothing is called ${set}`);
  }
}

/** The state after a button: a truth or an anchor more, less, or earlier in its list. */
export function added(state, name, place) {
  const { truths } = state;
  switch (name) {
    case "add-truth":
      return { ...state, truths: [...truths, [0.5, 0.5, 0.3, 0.3, 0]] };
    case "remove":
      return { ...state, truths: truths.filter((_, at) => at !== place) };
    case "earlier":
      return { ...state, truths: truths.with(place - 1, truths[place]).with(place, truths[place - 1]) };
    case "add-anchor":
      return reshaped(state, { anchors: [...state.anchors, [1, 1]] });
    case "remove-anchor": {
      // Those behind it move up, with their outputs.
      const size = (5 + state.classes) * state.height * state.width;
      const predictions = state.predictions.filter((_, at) => Math.floor(at / size) !== place);
      const anchors = state.anchors.filter((_, at) => at !== place);
      const anchor = Math.min(state.selected.anchor, anchors.length - 1);
      return { ...state, anchors, predictions, selected: { ...state.selected, anchor } };
    }
    default:
      throw new Error(`nothing is called ${name}`);
  }
}
