// What the explorer shows, as an object, as the fragment of a link, and as a case of the spec.

/**
 * @typedef {object} State
 * @property {string} title - what the case is called when it is copied
 * @property {string} profile - a shipped profile
 * @property {Record<string, string|number>} options - axes that are set otherwise than in the profile
 * @property {number} width - columns of the grid
 * @property {number} height - rows of the grid
 * @property {number[][]} anchors - widths and heights, in cells
 * @property {number} classes
 * @property {number} imagesSeen - t
 * @property {number[][]} truths - rows [x, y, w, h, class], fractions of the image
 * @property {Float64Array} predictions - raw outputs [A, 5+C, H, W], row-major
 * @property {{anchor: number, row: number, column: number}} selected - the predictor that is looked at
 */

/** The largest picture that can still be read. */
export const MOST = { side: 19, anchors: 9, classes: 80, truths: 50 };

const CHANNELS = ["tx", "ty", "tw", "th", "to"];

/** The name of a channel of a predictor. */
export const channelName = (channel) => CHANNELS[channel] ?? `class ${channel - CHANNELS.length}`;

/** Where a channel of a predictor stands in the predictions. */
export function indexOf(state, { anchor, row, column }, channel) {
  return ((anchor * (5 + state.classes) + channel) * state.height + row) * state.width + column;
}

/** The state of a case with one image. */
export function fromCase({ title, profile, options, grid, anchors, classes, images_seen, truths, predictions }, selected) {
  const state = { title, profile, options: options ?? {}, ...grid, anchors, classes, imagesSeen: images_seen };
  return { ...state, truths: truths[0], predictions: Float64Array.from(predictions), selected };
}

/** The state as a case of the spec: JSON with a line for each key. */
export function toCase(state) {
  // JSON has no name for a number that was left empty; the format of cases has.
  const named = (_, value) => (typeof value === "number" && !Number.isFinite(value) ? String(value).toLowerCase() : value);
  const lines = Object.entries({
    title: state.title,
    profile: state.profile,
    options: state.options,
    grid: { height: state.height, width: state.width },
    anchors: state.anchors,
    classes: state.classes,
    images_seen: state.imagesSeen,
    truths: [state.truths],
    predictions: Array.from(state.predictions),
  }).map(([key, value]) => ` ${JSON.stringify(key)}: ${JSON.stringify(value, named)}`);
  return `{\n${lines.join(",\n")}\n}\n`;
}

/** The question that is put to the loss. */
export function batchOf(state) {
  const shape = [1, state.anchors.length * (5 + state.classes), state.height, state.width];
  return {
    predictions: { shape, values: state.predictions },
    truths: [state.truths],
    anchors: state.anchors,
    classes: state.classes,
    images_seen: state.imagesSeen,
  };
}

const row = (numbers) => numbers.join("_");

/** The state as the fragment of a link, every number exact. */
export function toFragment(state) {
  const options = Object.entries(state.options).map(([axis, value]) => `${axis}:${value}`);
  return Object.entries({
    profile: state.profile,
    options: options.join("~"),
    grid: row([state.height, state.width]),
    anchors: state.anchors.map(row).join("~"),
    classes: state.classes,
    t: state.imagesSeen,
    at: row(Object.values(placeOf(state.selected))),
    truths: state.truths.map(row).join("~"),
    predictions: row(Array.from(state.predictions)),
    title: encodeURIComponent(state.title),
  })
    .map(([key, value]) => `${key}=${value}`)
    .join("&");
}

const placeOf = ({ anchor, row, column }) => ({ anchor, row, column });

/**
 * The state of a fragment.
 * @throws {Error} a part that is missing or cannot be read, with its name; nothing is filled in.
 */
export function fromFragment(fragment, profiles) {
  const parts = Object.fromEntries(fragment.split("&").map((part) => part.split(/=(.*)/s).slice(0, 2)));
  const list = (key) => {
    if (parts[key] === undefined) throw new Error(`${key} is missing`);
    return parts[key] === "" ? [] : parts[key].split("~");
  };
  const numbers = (text, key, count) => {
    const read = text === "" ? [] : text.split("_").map((one) => (one === "" ? NaN : Number(one)));
    if (read.some(Number.isNaN)) throw new Error(`${key} is ${text}, expected numbers`);
    if (count !== undefined && read.length !== count) throw new Error(`${key} has ${read.length} numbers, not ${count}`);
    return read;
  };
  const one = (key, count) => numbers(list(key).join("~"), key, count);
  const whole = (key, count, least, most) => {
    const read = one(key, count);
    if (read.every((value) => Number.isInteger(value) && value >= least && value <= most)) return read;
    throw new Error(`${key} is ${read.join(" and ")}, expected whole numbers from ${least} to ${most}`);
  };
  if (!Object.hasOwn(profiles, list("profile").join())) throw new Error(`there is no profile ${parts.profile} here`);
  const axes = profiles[parts.profile];
  const [height, width] = whole("grid", 2, 1, MOST.side);
  const [classes] = whole("classes", 1, 1, MOST.classes);
  const anchors = list("anchors").map((text) => numbers(text, "anchors", 2));
  if (anchors.length < 1 || anchors.length > MOST.anchors) throw new Error(`there are ${anchors.length} anchors`);
  const [anchor, row, column] = whole("at", 3, 0, MOST.side);
  if (anchor >= anchors.length || row >= height || column >= width) throw new Error(`at is ${parts.at}: no predictor`);
  const truths = list("truths").map((text) => numbers(text, "truths", 5));
  if (truths.length > MOST.truths) throw new Error(`there are ${truths.length} truths, at most ${MOST.truths} are shown`);
  return {
    title: decodeURIComponent(list("title").join("~")),
    profile: parts.profile,
    options: Object.fromEntries(list("options").map((text) => option(text, axes))),
    width,
    height,
    anchors,
    classes,
    imagesSeen: one("t", 1)[0],
    truths,
    predictions: Float64Array.from(one("predictions", anchors.length * (5 + classes) * height * width)),
    selected: { anchor, row, column },
  };
}

function option(text, axes) {
  const [axis, value] = text.split(":");
  if (!Object.hasOwn(axes, axis)) throw new Error(`options: there is no axis ${axis}`);
  const read = typeof axes[axis] === "number" ? Number(value) : value;
  if (value === undefined || value === "" || Number.isNaN(read)) throw new Error(`options: ${axis} is ${value}`);
  return [axis, read];
}

/** The state with another grid, other anchors or other classes: predictors that remain keep their outputs. */
export function reshaped(state, change) {
  const next = { ...state, ...change };
  next.predictions = new Float64Array(next.anchors.length * (5 + next.classes) * next.height * next.width);
  for (let anchor = 0; anchor < Math.min(state.anchors.length, next.anchors.length); anchor++) {
    for (let channel = 0; channel < 5 + Math.min(state.classes, next.classes); channel++) {
      for (let row = 0; row < Math.min(state.height, next.height); row++) {
        for (let column = 0; column < Math.min(state.width, next.width); column++) {
          const place = { anchor, row, column };
          next.predictions[indexOf(next, place, channel)] = state.predictions[indexOf(state, place, channel)];
        }
      }
    }
  }
  const { anchor, row, column } = state.selected;
  next.selected = {
    anchor: Math.min(anchor, next.anchors.length - 1),
    row: Math.min(row, next.height - 1),
    column: Math.min(column, next.width - 1),
  };
  return next;
}
