// The domain of the YOLOv2 loss: every input is checked here, once, before anything is computed.

/** An input outside the domain. `image` and `truth` say where, where the fault has a place. */
export class DomainError extends Error {
  constructor(message, image = null, truth = null) {
    const place = [image === null ? [] : `image ${image}`, truth === null ? [] : `truth ${truth}`].flat().join(", ");
    super(place ? `${place}: ${message}` : message);
    this.image = image;
    this.truth = truth;
  }
}

const isCount = (value, least) => Number.isInteger(value) && value >= least;

/** The batch in the shape that the loss works on: only truths that are read, and where each number stands. */
export function readInputs(batch, profile) {
  const { anchors, classes, predictions } = batch;
  readAnchors(anchors);
  if (!isCount(classes, 1)) throw new DomainError(`classes is ${classes}, expected a whole number >= 1`);
  if (!isCount(batch.images_seen, 0)) {
    throw new DomainError(`images_seen is ${batch.images_seen}, expected a whole number >= 0`);
  }
  const [images, height, width] = readPredictions(predictions, anchors.length, classes);
  if (batch.truths.length !== images) {
    throw new DomainError(`got ${batch.truths.length} truth lists for ${images} images`);
  }
  return {
    t: predictions.values,
    truths: batch.truths.map((rows, image) => readTruths(rows, image, classes, profile)),
    anchors,
    classes,
    imagesSeen: batch.images_seen,
    images,
    height,
    width,
    predictors: images * anchors.length * height * width,
    predictor({ image, anchor, row, column }) {
      return ((image * anchors.length + anchor) * height + row) * width + column;
    },
    index({ image, anchor, row, column }, channel) {
      return (((image * anchors.length + anchor) * (5 + classes) + channel) * height + row) * width + column;
    },
    *places() {
      for (let image = 0; image < images; image++) {
        for (let anchor = 0; anchor < anchors.length; anchor++) {
          for (let row = 0; row < height; row++) {
            for (let column = 0; column < width; column++) yield { image, anchor, row, column };
          }
        }
      }
    },
  };
}

function readAnchors(anchors) {
  if (anchors.length === 0) throw new DomainError("there are no anchors, expected at least one");
  for (const anchor of anchors) {
    if (anchor.length !== 2 || !anchor.every((size) => Number.isFinite(size) && size > 0)) {
      throw new DomainError(`an anchor is ${anchor}, expected a positive width and height in cells`);
    }
  }
}

function readPredictions({ shape, values }, anchors, classes) {
  if (shape.length !== 4) throw new DomainError(`predictions have rank ${shape.length}, expected 4`);
  const [images, channels, height, width] = shape;
  if (channels !== anchors * (5 + classes)) {
    throw new DomainError(`predictions have ${channels} channels, expected A*(5+C) = ${anchors * (5 + classes)}`);
  }
  if (!isCount(height, 1) || !isCount(width, 1)) {
    throw new DomainError(`the grid is ${height} x ${width} cells, expected at least 1 x 1`);
  }
  const size = channels * height * width;
  if (values.length !== images * size) {
    throw new DomainError(`${values.length} predictions came for the shape ${shape}`);
  }
  const wrong = values.findIndex((value) => !Number.isFinite(value));
  if (wrong >= 0) {
    throw new DomainError(`prediction ${wrong % size} is ${values[wrong]}`, Math.floor(wrong / size));
  }
  return [images, height, width];
}

/** The rows of one image up to its terminator, a row whose x is 0, and up to the capacity. */
function readTruths(rows, image, classes, profile) {
  if (rows.some((row) => row.length !== 5)) {
    throw new DomainError("a row is not the five numbers x, y, w, h, class", image);
  }
  const end = profile.truth_end === "x-zero" ? rows.findIndex(([x]) => x === 0) : -1;
  const read = rows.slice(0, end < 0 ? rows.length : end).slice(0, profile.max_truths || rows.length);
  return read.map((row, truth) => readTruth(row, image, truth, classes));
}

function readTruth(row, image, truth, classes) {
  const wrong = (message) => new DomainError(message, image, truth);
  const [x, y, w, h, label] = row;
  if (!row.every(Number.isFinite)) throw wrong(`x, y, w, h, class are ${row}, expected finite numbers`);
  for (const [name, value] of Object.entries({ x, y })) {
    if (!(value >= 0 && value < 1)) throw wrong(`${name} is ${value}, expected a fraction of the image below 1`);
  }
  for (const [name, value] of Object.entries({ w, h })) {
    if (!(value > 0 && value <= 1)) throw wrong(`${name} is ${value}, expected a fraction of the image above 0`);
  }
  if (!isCount(label, 0) || label >= classes) {
    throw wrong(`class is ${label}, expected a whole number from 0 to ${classes - 1}`);
  }
  return { x, y, w, h, label };
}
