// The YOLOv2 ("region") loss of region_loss_core.mjs as an adapter of the regionloss suite, for Node.
//
//     regionloss check "cmd:node adapters/examples/javascript/region_loss.mjs"
//
// It reads one line of JSON for each question and writes one line for each answer; docs/protocol.md has the messages.

import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { createInterface } from "node:readline";

import { DomainError, UnsupportedError, regionLoss } from "./region_loss_core.mjs";

const PROTOCOL = 1;

const WHO = {
  name: "JavaScript example",
  profiles: [
    "darknet", "andy-yun", "darknet-2016", "formula", "leetenki", "lightnet", "marvis", "mxnet", "samylee", "uvipen",
    "yad2k",
  ],
  answers: ["potential", "terms", "gradient", "indicators", "errors"],
  dtypes: ["float64"],
};

/** Numbers that JSON lacks come and go as the texts nan, inf and -inf. */
const NAMED = { nan: NaN, inf: Infinity, "-inf": -Infinity };

function fromJson(value) {
  if (Array.isArray(value)) return value.map(fromJson);
  return typeof value === "string" ? NAMED[value] : value;
}

function toJson(value) {
  if (Number.isFinite(value)) return value;
  return Number.isNaN(value) ? "nan" : value > 0 ? "inf" : "-inf";
}

function readTensor(tensor, folder) {
  if (tensor.file === undefined) return { shape: tensor.shape, values: Float64Array.from(tensor.values, fromJson) };
  const bytes = readFileSync(join(folder, tensor.file));
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  return {
    shape: tensor.shape,
    values: Float64Array.from({ length: bytes.byteLength / 8 }, (_, at) => view.getFloat64(8 * at, true)),
  };
}

function writeTensor(shape, values, name, { folder, inline_limit }) {
  if (values.length <= inline_limit) return { shape, values: Array.from(values, toJson) };
  const view = new DataView(new ArrayBuffer(8 * values.length));
  values.forEach((value, at) => view.setFloat64(8 * at, value, true));
  writeFileSync(join(folder, name), view);
  return { shape, dtype: "float64", file: name };
}

function answer({ id, batch, profile, upstream }, hello) {
  try {
    const result = regionLoss(
      {
        predictions: readTensor(batch.predictions, hello.folder),
        truths: fromJson(batch.truths),
        anchors: fromJson(batch.anchors),
        classes: fromJson(batch.classes),
        images_seen: fromJson(batch.images_seen),
      },
      profile,
    );
    const gradient = result.gradient.map((slope) => upstream * slope);
    return {
      type: "answer",
      gradient: writeTensor(batch.predictions.shape, gradient, `answer-${id}-gradient.raw`, hello),
      potential: toJson(result.potential),
      terms: Object.fromEntries(Object.entries(result.terms).map(([name, term]) => [name, toJson(term)])),
      responsible: result.responsible,
      ignored: result.ignored,
    };
  } catch (error) {
    if (error instanceof DomainError) {
      return { type: "refused", message: error.message, image: error.image, truth: error.truth };
    }
    if (error instanceof UnsupportedError) return { type: "skipped", reason: error.message };
    return { type: "error", message: String(error.stack).slice(0, 2000) };
  }
}

let hello = null;
for await (const line of createInterface({ input: process.stdin })) {
  const message = JSON.parse(line);
  if (message.type === "hello") hello = message;
  const said = message.type === "hello" ? { type: "hello", protocol: PROTOCOL, ...WHO } : answer(message, hello);
  process.stdout.write(`${JSON.stringify({ ...said, id: message.id })}\n`);
}
