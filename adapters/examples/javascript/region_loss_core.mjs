// The YOLOv2 ("region") loss, its terms, its gradient and its indicators.
// No dependencies and nothing of Node, so that a page in a browser can import it too.

import { CLASSES, T_H, T_O, T_W, T_X, T_Y, sigmoid, sigmoidSlope } from "./region_loss_boxes.mjs";
import { decide } from "./region_loss_decisions.mjs";
import { readInputs } from "./region_loss_domain.mjs";

export { DomainError } from "./region_loss_domain.mjs";

/** The profile asks for a choice that this program does not have. */
export class UnsupportedError extends Error {}

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
 *   row, column] of each predictor that MaxIOU silences); and what a picture of it needs: `inputs` as they were read,
 *   `decisions` on every predictor and truth, `paid` (for each term what each predictor pays of it, in the order
 *   [N, A, H, W]).
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
    inputs,
    decisions,
    paid: account.paid,
  };
}

/** What has been paid so far: the five terms, whole and by predictor, and the gradient. */
class Account {
  constructor(inputs, profile) {
    this.inputs = inputs;
    this.profile = profile;
    this.scale = profile.reduction === "sum" ? 1 : 1 / Math.max(inputs.images, 1);
    this.terms = { no_object: 0, prior: 0, coord: 0, object: 0, class: 0 };
    this.paid = Object.fromEntries(Object.keys(this.terms).map((term) => [term, new Float64Array(inputs.predictors)]));
    this.gradient = new Float64Array(inputs.t.length);
  }

  /** Adds q·λ·r² to a term and 2q·λ·r·(dr/dt) to the gradient; `residual` says r and dr/dt of the raw output t. */
  pay(term, weight, place, channel, residual) {
    const at = this.inputs.index(place, channel);
    const [r, slope] = residual(this.inputs.t[at]);
    const whole = this.scale * this.profile.squared_factor * weight;
    this.enter(term, place, whole * r * r);
    this.gradient[at] += 2 * whole * r * slope;
  }

  enter(term, place, value) {
    this.terms[term] += value;
    this.paid[term][this.inputs.predictor(place)] += value;
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
  account.enter("class", place, scale * profile.class_weight * value);
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
