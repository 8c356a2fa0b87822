// The YOLOv2 ("region") loss, its terms, its gradient and its indicators.
// No dependencies and nothing of Node, so that a page in a browser can import it too.

import { readInputs } from "./region_loss_domain.mjs";

export { DomainError } from "./region_loss_domain.mjs";

/** The profile asks for a choice that this program does not have. */
export class UnsupportedError extends Error {}

const [T_X, T_Y, T_W, T_H, T_O, CLASSES] = [0, 1, 2, 3, 4, 5];

/** The axes of a profile that name a choice, with the choices that are here. The other axes are numbers. */
const CHOICES = {
  ignore: ["above", "at-or-above", "none"],
  no_object_applies: ["not-responsible", "every-predictor"],
  no_object_target: ["zero", "max-iou"],
  prior_applies: ["not-responsible", "every-predictor"],
  anchor_choice: ["anchor-shape", "anchor-corner", "predicted-shape", "predicted-iou"],
  collision: ["last", "first", "sum"],
  class_collision: ["replace", "accumulate"],
  size_space: ["log", "decoded", "square-root"],
  size_target_floor: ["none", "one-cell"],
  object_target: ["iou", "one", "max-iou"],
  object_target_gradient: ["constant"],
  objectness: ["logistic"],
  class_term: ["cross-entropy", "squared-error", "squared-linear", "logistic", "focal"],
  ignored_class: ["none"],
  reduction: ["sum", "per-image"],
  truth_end: ["x-zero", "none"],
};

const NUMBERS = [
  "thresh", "prior_until", "prior_weight", "small_box_exponent", "coord_weight", "object_weight", "no_object_weight",
  "class_weight", "squared_factor", "max_truths",
];

/** Neither is part of what is answered here. */
const WITHOUT_EFFECT = ["name", "title", "source", "printed_cost"];

/**
 * The loss of a batch under a profile.
 *
 * @param {object} batch - `predictions` ({shape: [N, A*(5+C), H, W], values}, raw outputs in row-major order), `truths`
 *   (for each image its rows [x, y, w, h, class], fractions of the image), `anchors` ([[width, height], ...] in cells),
 *   `classes`, `images_seen`.
 * @param {object} profile - the value of every axis, named as in the spec.
 * @returns {object} `gradient` (Float64Array in the shape of the predictions), `potential`, `terms` by name,
 *   `responsible` ([image, truth, anchor, row, column] of each truth whose box is paid), `ignored` ([image, anchor,
 *   row, column] of each predictor that MaxIOU silences), and for each predictor in the order [N, A, H, W] `maxIou`,
 *   `noObject` and `prior`.
 * @throws {UnsupportedError} the profile has a choice that is not here.
 * @throws {DomainError} the batch lies outside the domain; `image` and `truth` say where.
 */
export function regionLoss(batch, profile) {
  checkProfile(profile);
  const inputs = readInputs(batch, profile);
  const decisions = decide(inputs, profile);
  const account = new Account(inputs, profile);
  for (const place of inputs.places()) payWithoutTruth(account, place, decisions);
  for (const match of decisions.matches.filter(({ paysBox }) => paysBox)) payBox(account, match, decisions);
  for (const { place, labels } of classPayments(decisions.matches, profile)) payClass(account, place, labels);
  return {
    gradient: account.gradient,
    terms: account.terms,
    potential: Object.values(account.terms).reduce((sum, term) => sum + term, 0),
    responsible: decisions.matches
      .filter(({ paysBox }) => paysBox)
      .map(({ place, index }) => [place.image, index, place.anchor, place.row, place.column]),
    ignored: [...inputs.places()]
      .filter((place) => decisions.ignored[inputs.predictor(place)])
      .map(({ image, anchor, row, column }) => [image, anchor, row, column]),
    maxIou: decisions.maxIou,
    noObject: decisions.noObject,
    prior: decisions.prior,
  };
}

/** What has been paid so far: the five terms and the gradient. */
class Account {
  constructor(inputs, profile) {
    this.inputs = inputs;
    this.profile = profile;
    this.scale = profile.reduction === "sum" ? 1 : 1 / Math.max(inputs.images, 1);
    this.terms = { no_object: 0, prior: 0, coord: 0, object: 0, class: 0 };
    this.gradient = new Float64Array(inputs.t.length);
  }

  /** Adds q·λ·r² to a term and 2q·λ·r·(dr/dt) to the gradient; `residual` says r and dr/dt of the raw output t. */
  pay(term, weight, place, channel, residual) {
    const at = this.inputs.index(place, channel);
    const [r, slope] = residual(this.inputs.t[at]);
    const whole = this.scale * this.profile.squared_factor * weight;
    this.terms[term] += whole * r * r;
    this.gradient[at] += 2 * whole * r * slope;
  }
}

/** The residual of an output that goes through the logistic function. */
const logistic = (target) => (t) => [sigmoid(t) - target, sigmoidSlope(t)];

/** What a predictor pays whatever the truths of its cell: no-object and the prior, where their indicators are on. */
function payWithoutTruth(account, place, decisions) {
  const { inputs, profile } = account;
  const here = inputs.predictor(place);
  if (decisions.noObject[here]) {
    const target = profile.no_object_target === "max-iou" ? decisions.maxIou[here] : 0;
    account.pay("no_object", profile.no_object_weight, place, T_O, logistic(target));
  }
  if (decisions.prior[here]) {
    for (const channel of [T_X, T_Y]) account.pay("prior", profile.prior_weight, place, channel, logistic(0.5));
    for (const channel of [T_W, T_H]) account.pay("prior", profile.prior_weight, place, channel, (t) => [t, 1]);
  }
}

/** Coordinates and objectness of a predictor for a truth. */
function payBox(account, { place, truth, iou }, decisions) {
  const { inputs, profile } = account;
  const weight = profile.coord_weight * (2 - truth.w * truth.h) ** profile.small_box_exponent;
  const [anchorWidth, anchorHeight] = inputs.anchors[place.anchor];
  account.pay("coord", weight, place, T_X, logistic(truth.x * inputs.width - place.column));
  account.pay("coord", weight, place, T_Y, logistic(truth.y * inputs.height - place.row));
  account.pay("coord", weight, place, T_W, sizeResidual(truth.w, inputs.width, anchorWidth, profile));
  account.pay("coord", weight, place, T_H, sizeResidual(truth.h, inputs.height, anchorHeight, profile));
  const maxIou = decisions.maxIou[inputs.predictor(place)];
  // Whichever it is, the target is a constant: no gradient flows through it.
  const target = { iou, one: 1, "max-iou": maxIou }[profile.object_target];
  account.pay("object", profile.object_weight, place, T_O, logistic(target));
}

function payClass(account, place, labels) {
  const { inputs, profile, scale } = account;
  const z = Array.from({ length: inputs.classes }, (_, c) => inputs.t[inputs.index(place, CLASSES + c)]);
  const { value, slopes } = classTerm(z, labels, profile);
  account.terms.class += scale * profile.class_weight * value;
  slopes.forEach((slope, c) => {
    account.gradient[inputs.index(place, CLASSES + c)] += scale * profile.class_weight * slope;
  });
}

function checkProfile(profile) {
  for (const [axis, value] of Object.entries(profile)) {
    if (WITHOUT_EFFECT.includes(axis)) continue;
    if (!Object.hasOwn(CHOICES, axis) && !NUMBERS.includes(axis)) {
      throw new UnsupportedError(`${axis}: this program does not know this axis`);
    }
    if (Object.hasOwn(CHOICES, axis) && !CHOICES[axis].includes(value)) {
      throw new UnsupportedError(`${axis}: this program has no ${value}`);
    }
  }
  for (const axis of [...Object.keys(CHOICES), ...NUMBERS]) {
    if (!Object.hasOwn(profile, axis)) throw new UnsupportedError(`${axis}: the profile does not state it`);
  }
}

/** Everything that is decided first and then held constant: MaxIOU, who is responsible, and the indicators. */
function decide(inputs, profile) {
  const maxIou = new Float64Array(inputs.predictors);
  const [responsible, noObject, ignored, prior] = [0, 0, 0, 0].map(() => new Array(inputs.predictors).fill(false));
  for (const place of inputs.places()) {
    const box = decode(inputs, place);
    const overlaps = inputs.truths[place.image].map((truth) => overlapOfBoxes(box, truth));
    maxIou[inputs.predictor(place)] = Math.max(0, ...overlaps);
  }
  const matches = inputs.truths.flatMap((truths, image) =>
    settle(inputs, profile, truths.map((truth, index) => match(inputs, profile, image, truth, index))),
  );
  for (const { place, paysBox } of matches) {
    if (paysBox) responsible[inputs.predictor(place)] = true;
  }
  for (let here = 0; here < inputs.predictors; here++) {
    noObject[here] =
      !isQuiet(maxIou[here], profile) && (!responsible[here] || profile.no_object_applies === "every-predictor");
    ignored[here] = !responsible[here] && !noObject[here];
    prior[here] =
      inputs.imagesSeen < profile.prior_until && (!responsible[here] || profile.prior_applies === "every-predictor");
  }
  return { maxIou, matches, noObject, ignored, prior };
}

function isQuiet(maxIou, profile) {
  if (profile.ignore === "none" || profile.no_object_target === "max-iou") return false;
  return profile.ignore === "above" ? maxIou > profile.thresh : maxIou >= profile.thresh;
}

/** A truth and the predictor of its cell that fits it best: the first on a tie. */
function match(inputs, profile, image, truth, index) {
  const [row, column] = [Math.floor(truth.y * inputs.height), Math.floor(truth.x * inputs.width)];
  let place = { image, anchor: 0, row, column };
  let best = 0;
  for (let anchor = 0; anchor < inputs.anchors.length; anchor++) {
    const fit = fitOf(inputs, profile, { ...place, anchor }, truth);
    if (fit > best) {
      best = fit;
      place = { ...place, anchor };
    }
  }
  return { place, truth, index, iou: overlapOfBoxes(decode(inputs, place), truth) };
}

function fitOf(inputs, profile, place, truth) {
  const [width, height] = inputs.anchors[place.anchor];
  const shape = { x: 0, y: 0, w: width / inputs.width, h: height / inputs.height };
  const predicted = decode(inputs, place);
  switch (profile.anchor_choice) {
    case "anchor-shape":
      return overlapOfBoxes(shape, { ...truth, x: 0, y: 0 });
    case "anchor-corner":
      return overlapOfBoxes({ ...shape, x: place.column / inputs.width, y: place.row / inputs.height }, truth);
    case "predicted-shape":
      return overlapOfBoxes({ ...predicted, x: 0, y: 0 }, { ...truth, x: 0, y: 0 });
    default:
      return overlapOfBoxes(predicted, truth);
  }
}

/** Says which of the truths that chose one predictor are paid. */
function settle(inputs, profile, matches) {
  const chose = matches.map(({ place }) => inputs.predictor(place));
  return matches.map((one, here) => {
    const paysBox = {
      last: chose.lastIndexOf(chose[here]) === here,
      first: chose.indexOf(chose[here]) === here,
      sum: true,
    }[profile.collision];
    return { ...one, paysBox, paysClass: paysBox || profile.class_collision === "accumulate" };
  });
}

/** The predictors that pay the class term, each with its true classes. */
function classPayments(matches, profile) {
  const paying = matches.filter(({ paysClass }) => paysClass);
  if (profile.class_collision === "replace") {
    return paying.map(({ place, truth }) => ({ place, labels: [truth.label] }));
  }
  const collected = new Map();
  for (const { place, truth } of paying) {
    const key = Object.values(place).join();
    if (!collected.has(key)) collected.set(key, { place, labels: [] });
    collected.get(key).labels.push(truth.label);
  }
  return [...collected.values()];
}

/** The class term of one predictor and its derivative with respect to the class outputs `z`, without the weight. */
function classTerm(z, labels, profile) {
  const top = Math.max(...z);
  const logSum = Math.log(z.reduce((sum, one) => sum + Math.exp(one - top), 0));
  const logP = z.map((one) => one - top - logSum);
  const outputs = { "squared-linear": z, logistic: z.map(sigmoid) }[profile.class_term] ?? logP.map(Math.exp);
  const residuals = outputs.map((p, c) => p - (labels.includes(c) ? 1 : 0));
  const q = profile.squared_factor;
  const squares = residuals.reduce((sum, residual) => sum + residual * residual, 0);
  const label = labels.at(-1);
  switch (profile.class_term) {
    case "squared-linear":
      return { value: q * squares, slopes: residuals.map((residual) => 2 * q * residual) };
    case "squared-error": {
      const mean = residuals.reduce((sum, residual, c) => sum + residual * outputs[c], 0);
      return { value: q * squares, slopes: residuals.map((residual, c) => 2 * q * outputs[c] * (residual - mean)) };
    }
    case "logistic": {
      const softplus = (one) => Math.max(one, 0) + Math.log1p(Math.exp(-Math.abs(one)));
      const value = z.reduce((sum, one, c) => sum + softplus(labels.includes(c) ? -one : one), 0);
      return { value, slopes: residuals };
    }
    case "focal": {
      const p = outputs[label];
      const modulation = 0.5 * (1 - p) * (1 - p - 2 * p * logP[label]);
      return { value: -0.5 * (1 - p) ** 2 * logP[label], slopes: residuals.map((residual) => modulation * residual) };
    }
    default:
      return { value: -logP[label], slopes: residuals };
  }
}

/** The residual of a width or height; `size` is a fraction of the image, which is `cells` cells long. */
function sizeResidual(size, cells, anchor, profile) {
  if (profile.size_space === "log") {
    const floor = profile.size_target_floor === "one-cell" ? 1 : 0;
    const target = Math.log(Math.max(size * cells, floor) / anchor);
    return (t) => [t - target, 1];
  }
  if (profile.size_space === "decoded") {
    return (t) => [anchor * Math.exp(t) - size * cells, anchor * Math.exp(t)];
  }
  const root = (t) => Math.sqrt((anchor * Math.exp(t)) / cells);
  return (t) => [root(t) - Math.sqrt(size), root(t) / 2];
}

function sigmoid(t) {
  const small = Math.exp(-Math.abs(t));
  return (t >= 0 ? 1 : small) / (1 + small);
}

/** b(1 - b), without the cancellation near b = 1. */
function sigmoidSlope(t) {
  return sigmoid(t) * sigmoid(-t);
}

/** The box of a predictor: centre and size, fractions of the image. */
function decode(inputs, place) {
  const [t_x, t_y, t_w, t_h] = [T_X, T_Y, T_W, T_H].map((channel) => inputs.t[inputs.index(place, channel)]);
  const [width, height] = inputs.anchors[place.anchor];
  return {
    x: (place.column + sigmoid(t_x)) / inputs.width,
    y: (place.row + sigmoid(t_y)) / inputs.height,
    w: (Math.exp(t_w) * width) / inputs.width,
    h: (Math.exp(t_h) * height) / inputs.height,
  };
}

/** Intersection over union. An infinite box overlaps nothing. */
function overlapOfBoxes(box, other) {
  const across = overlapOfSides(box.x, box.w, other.x, other.w);
  const down = overlapOfSides(box.y, box.h, other.y, other.h);
  const intersection = across < 0 || down < 0 ? 0 : across * down;
  const union = box.w * box.h + other.w * other.h - intersection;
  return union > 0 && Number.isFinite(union) ? intersection / union : 0;
}

function overlapOfSides(centre, size, otherCentre, otherSize) {
  const right = Math.min(centre + size / 2, otherCentre + otherSize / 2);
  const left = Math.max(centre - size / 2, otherCentre - otherSize / 2);
  return right - left;
}
