// Boxes of the YOLOv2 loss: how a predictor's raw outputs become one, and how much two of them overlap.

/** The channels of a predictor; class c is at CLASSES + c. */
export const [T_X, T_Y, T_W, T_H, T_O, CLASSES] = [0, 1, 2, 3, 4, 5];

/** The logistic function. */
export function sigmoid(t) {
  const small = Math.exp(-Math.abs(t));
  return (t >= 0 ? 1 : small) / (1 + small);
}

/** b(1 - b), without the cancellation near b = 1. */
export function sigmoidSlope(t) {
  return sigmoid(t) * sigmoid(-t);
}

/** The box of a predictor: centre and size, fractions of the image. */
export function decode(inputs, place) {
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
export function overlapOfBoxes(box, other) {
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
