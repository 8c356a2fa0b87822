// What the YOLOv2 loss decides first and then holds constant: who is responsible, and which indicators are on.

import { decode, overlapOfBoxes } from "./region_loss_boxes.mjs";

/** Everything that is decided first and then held constant: MaxIOU, who is responsible, and the indicators. */
export function decide(inputs, profile) {
  const maxIou = new Float64Array(inputs.predictors);
  const nearest = new Int32Array(inputs.predictors).fill(-1);
  const [responsible, noObject, ignored, prior] = [0, 0, 0, 0].map(() => new Array(inputs.predictors).fill(false));
  for (const place of inputs.places()) {
    const box = decode(inputs, place);
    const here = inputs.predictor(place);
    inputs.truths[place.image].forEach((truth, index) => {
      const overlap = overlapOfBoxes(box, truth);
      if (overlap > maxIou[here]) [maxIou[here], nearest[here]] = [overlap, index];
    });
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
  return { maxIou, nearest, matches, noObject, ignored, prior };
}

function isQuiet(maxIou, profile) {
  if (profile.ignore === "none" || profile.no_object_target === "max-iou") return false;
  return profile.ignore === "above" ? maxIou > profile.thresh : maxIou >= profile.thresh;
}

/** A truth and the predictor of its cell that fits it best: the first on a tie. */
function match(inputs, profile, image, truth, index) {
  const [row, column] = [Math.floor(truth.y * inputs.height), Math.floor(truth.x * inputs.width)];
  let place = { image, row, column };
  const fits = inputs.anchors.map((_, anchor) => fitOf(inputs, profile, { ...place, anchor }, truth));
  place = { ...place, anchor: fits.indexOf(Math.max(...fits)) };
  return { place, truth, index, fits, iou: overlapOfBoxes(decode(inputs, place), truth) };
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
