// The explorer: a state, what the loss says about it, and what a person does to it.

import { DomainError, regionLoss } from "../../adapters/examples/javascript/region_loss_core.mjs";
import { draw, h } from "./draw.mjs";
import { added, dragged, edited, resized } from "./edits.mjs";
import { everyPanel, outputsPanel, predictorPanel, settingPanel, termsPanel, truthsPanel } from "./panels.mjs";
import { boxOf, fractions, plane } from "./plane.mjs";
import { about, short } from "./reasons.mjs";
import { batchOf, fromCase, fromFragment, toCase, toFragment } from "./state.mjs";

const root = document.getElementById("explorer");
const { profiles, presets } = JSON.parse(document.getElementById("explorer-data").textContent);
const part = (name) => root.querySelector(`[data-part="${name}"]`);

let state = null;
let preset = null; // the one that is shown unchanged
let refused = ""; // why the last edit, or the link, was not taken
let dragging = null;
let everyOpen = false;

const profileOf = ({ profile, options }) => ({ ...profiles[profile], ...options });

/** What the loss says about the state: a result, or why it refuses it. */
function judged() {
  try {
    return { result: regionLoss(batchOf(state), profileOf(state)), message: "" };
  } catch (error) {
    if (!(error instanceof DomainError)) throw error;
    return { result: null, message: `The loss refuses this input: ${error.message}. Nothing is computed from it.` };
  }
}

function show() {
  const profile = profileOf(state);
  const { result, message } = judged();
  draw(part("plane"), [plane(state, result, profile)]);
  draw(part("predictor"), predictorPanel(state, result, profile));
  draw(part("terms"), termsPanel(state, result));
  draw(part("outputs"), outputsPanel(state, result));
  draw(part("truths"), truthsPanel(state, result));
  draw(part("setting"), settingPanel(state, profiles, profile));
  draw(part("every"), everyPanel(state, result, profile, everyOpen));
  draw(part("alert"), [refused, message].filter(Boolean).map((text) => h("p", {}, text)));
  draw(part("question"), preset ? [h("b", {}, presets[preset].question), " ", presets[preset].look] : []);
  for (const link of root.querySelectorAll("[data-preset]")) {
    link.toggleAttribute("aria-current", link.dataset.preset === preset);
  }
  part("case").value = toCase(state);
  return result;
}

/** Shows a new state; once it is final, the link follows it and what it means is said aloud. */
function take(next, { final = true, said = "" } = {}) {
  state = next;
  preset = null;
  refused = "";
  const result = show();
  if (final) history.replaceState(null, "", `#${toFragment(state)}`);
  if (final) announce(result, said);
}

function announce(result, said) {
  const { anchor, row, column } = state.selected;
  const told = result && about(result, profileOf(state), state.selected);
  const spoken = told
    ? `Row ${row}, column ${column}, anchor ${anchor} is ${told.state}: ${told.indicators[told.state === "responsible" ? 2 : 0].why}. Potential ${short(result.potential)}.`
    : part("alert").textContent;
  part("said").textContent = `${said} ${spoken}`.trim();
}

/** An edit that cannot be taken leaves the state as it was and says why. */
function attempt(edit) {
  try {
    take(edit());
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
    refused = error.message;
    show();
  }
}

function open() {
  const fragment = decodeHash();
  refused = "";
  if (fragment.startsWith("profile=")) {
    try {
      state = fromFragment(fragment, profiles);
      preset = null;
      show();
      return;
    } catch (error) {
      refused = `The link cannot be read: ${error.message}. The first example is shown instead.`;
    }
  }
  preset = Object.hasOwn(presets, fragment) ? fragment : Object.keys(presets)[0];
  state = fromCase(presets[preset].case, presets[preset].selected);
  announce(show(), presets[preset].question);
}

const decodeHash = () => location.hash.slice(1);

/** Where the pointer is, as fractions of the image. */
function pointed(event) {
  const drawing = part("plane").querySelector("svg");
  return fractions(state, new DOMPoint(event.clientX, event.clientY).matrixTransform(drawing.getScreenCTM().inverse()));
}

/** The truth or the predicted box that an element belongs to. */
function grabbed(element) {
  const box = element.closest?.("[data-truth], [data-anchor]");
  if (!box) return null;
  const { truth, anchor } = box.dataset;
  return truth === undefined ? { anchor: Number(anchor) } : { truth: Number(truth) };
}

function select(place) {
  take({ ...state, selected: { ...state.selected, ...place } });
}

const named = (box) => (box.truth === undefined ? `Anchor ${box.anchor}` : `Truth ${box.truth}`);

part("plane").addEventListener("pointerdown", (event) => {
  const box = grabbed(event.target);
  if (event.button !== 0 || !box) return;
  if (box.anchor !== undefined) state = { ...state, selected: { ...state.selected, anchor: box.anchor } };
  const [from, at] = [boxOf(state, box), pointed(event)];
  const resizes = event.target.closest("[data-resize]") !== null;
  dragging = { box, resizes, from, off: { x: from.x - at.x, y: from.y - at.y }, moved: false };
  part("plane").setPointerCapture(event.pointerId);
  part("plane").querySelector(`[role=button][data-${Object.keys(box)[0]}="${Object.values(box)[0]}"]`).focus({ preventScroll: true });
  event.preventDefault();
});

part("plane").addEventListener("pointermove", (event) => {
  if (!dragging) return;
  const { box, resizes, from, off } = dragging;
  const at = pointed(event);
  const next = resizes
    ? resized(state, box, 2 * Math.abs(at.x - from.x), 2 * Math.abs(at.y - from.y))
    : dragged(state, box, at.x + off.x, at.y + off.y);
  dragging.moved = true;
  take(next, { final: false });
});

for (const kind of ["pointerup", "pointercancel"]) {
  part("plane").addEventListener(kind, () => {
    if (!dragging) return;
    const { box, moved } = dragging;
    dragging = null;
    if (moved || box.anchor !== undefined) take(state, { said: moved ? `${named(box)} moved.` : "" });
  });
}

part("plane").addEventListener("click", (event) => {
  const mark = event.target.closest("[data-mark]");
  const cell = event.target.closest("[data-cell]");
  if (mark) {
    const [anchor, row, column] = mark.dataset.mark.split(" ").map(Number);
    select({ anchor, row, column });
  } else if (cell) {
    const [row, column] = cell.dataset.cell.split(" ").map(Number);
    select({ row, column });
  }
});

// Whoever reaches a predicted box with the Tab key selects it.
part("plane").addEventListener("focusin", (event) => {
  const box = grabbed(event.target);
  if (!dragging && box?.anchor !== undefined && box.anchor !== state.selected.anchor) select({ anchor: box.anchor });
});

const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
const STEP = 0.01; // of the image

part("plane").addEventListener("keydown", (event) => {
  const box = grabbed(event.target);
  if (!(event.key in ARROWS)) return;
  event.preventDefault();
  const [right, down] = ARROWS[event.key];
  if (!box) {
    const { row, column } = state.selected;
    const to = { row: row + down, column: column + right };
    if (to.row < 0 || to.column < 0 || to.row >= state.height || to.column >= state.width) return;
    select(to);
    part("plane").querySelector(`[data-cell="${to.row} ${to.column}"]`).focus();
    return;
  }
  const { x, y, w, h: high } = boxOf(state, box);
  if (event.shiftKey) take(resized(state, box, w + right * STEP, high + down * STEP), { said: `${named(box)} resized.` });
  else take(dragged(state, box, x + right * STEP, y + down * STEP), { said: `${named(box)} moved.` });
});

root.addEventListener("change", ({ target }) => {
  if (target.dataset.set) attempt(() => edited(state, target.dataset.set, target.value, profiles));
});

root.addEventListener("click", ({ target }) => {
  const action = target.closest("[data-do]")?.dataset.do;
  if (action === undefined) return;
  const [name, ...places] = action.split(" ");
  if (name === "copy-case") copy(toCase(state), "The case is copied.");
  else if (name === "copy-link") copy(`${location.href.split("#")[0]}#${toFragment(state)}`, "The link is copied.");
  else if (name === "select") select({ anchor: Number(places[0]), row: Number(places[1]), column: Number(places[2]) });
  else attempt(() => added(state, name, Number(places[0])));
});

part("every").addEventListener(
  "toggle",
  ({ target }) => {
    if (target.open === everyOpen) return;
    everyOpen = target.open;
    show();
  },
  true, // it does not bubble
);

async function copy(text, said) {
  try {
    await navigator.clipboard.writeText(text);
    part("copied").textContent = said;
  } catch {
    part("copied").textContent = "The browser does not let this page copy; the text of the case stands below.";
    part("case").closest("details").open = true;
  }
}

window.addEventListener("hashchange", open);
open();
