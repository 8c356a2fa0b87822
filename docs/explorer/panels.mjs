// The panels beside the plane: the selected predictor, the terms, the truths, the setting and all predictors.

import { sigmoid } from "../../adapters/examples/javascript/region_loss_boxes.mjs";
import { h } from "./draw.mjs";
import { LETTERS, boxOf } from "./plane.mjs";
import { TERMS, about, fate, short } from "./reasons.mjs";
import { MOST, channelName, indexOf } from "./state.mjs";

/** A number that is read: short for people, whole for programs. */
const number = (value, attributes = {}) => h("data", { value: String(value), ...attributes }, short(value));

/** A field; `set` names what it changes, as `change` in explorer.mjs reads it. */
const field = (set, value, label, attributes = {}) =>
  h("input", { type: "number", step: "any", value: short(value), "aria-label": label, "data-set": set, ...attributes });

const button = (action, text, attributes = {}) => h("button", { type: "button", "data-do": action, ...attributes }, text);

/** Who is selected, what it pays, and its indicators with their reasons. */
export function predictorPanel(state, result, profile) {
  const { anchor, row, column } = state.selected;
  const told = result && about(result, profile, state.selected);
  return [
    h("h2", { id: "predictor" }, "The selected predictor"),
    h(
      "div",
      { class: "fields" },
      h("label", {}, "row ", field("row", row, "row", { step: 1, min: 0, max: state.height - 1 })),
      h("label", {}, "column ", field("column", column, "column", { step: 1, min: 0, max: state.width - 1 })),
      h("fieldset", { class: "choice" }, h("legend", {}, "anchor"), state.anchors.map((_, k) => anchorChoice(k, state, result, profile))),
    ),
    told && h("p", { class: `verdict ${told.state}` }, h("b", { "data-read": "state" }, `${LETTERS[told.state]} ${told.state}`), pays(told)),
    told && indicators(told),
  ];
}

function anchorChoice(k, state, result, profile) {
  const told = result && about(result, profile, { ...state.selected, anchor: k });
  const chosen = state.selected.anchor === k;
  const choice = h("input", { type: "radio", name: "anchor", value: String(k), checked: chosen, "data-set": "anchor" });
  return h("label", { class: told?.state ?? "" }, choice, ` ${k}${told ? ` ${LETTERS[told.state]}` : ""}`);
}

const pays = ({ pays: paid }) =>
  paid.length ? [": pays ", paid.map(([term, value], at) => [at ? ", " : "", `${TERMS[term]} `, number(value)])] : ": pays nothing";

function indicators({ indicators: rows }) {
  const head = h("tr", {}, ["indicator", "is", "because"].map((name) => h("th", { scope: "col" }, name)));
  const body = rows.map(({ name, formula, on, why }) =>
    h(
      "tr",
      { "data-indicator": name },
      h("th", { scope: "row" }, `${name} `, h("code", {}, formula)),
      h("td", {}, h("b", { class: on ? "on" : "off" }, on ? "● on" : "○ off")),
      h("td", {}, why),
    ),
  );
  return h("table", { class: "indicators" }, h("thead", {}, head), h("tbody", {}, body));
}

/** The raw outputs of the selected predictor, what they mean, and the gradient. */
export function outputsPanel(state, result) {
  const box = boxOf(state, { anchor: state.selected.anchor });
  const t = (channel) => state.predictions[indexOf(state, state.selected, channel)];
  const meaning = [
    () => ["σ = ", number(sigmoid(t(0))), " of the cell"],
    () => ["σ = ", number(sigmoid(t(1))), " of the cell"],
    () => ["width ", number(box.w * state.width), " cells"],
    () => ["height ", number(box.h * state.height), " cells"],
    () => ["σ = ", number(sigmoid(t(4)))],
  ];
  const rows = Array.from({ length: 5 + state.classes }, (_, channel) => {
    const name = channelName(channel);
    return h(
      "tr",
      {},
      h("th", { scope: "row" }, name),
      h("td", {}, field(`t-output ${channel}`, t(channel), `raw output ${name}`)),
      h("td", {}, meaning[channel]?.() ?? ""),
      h("td", {}, result && number(result.gradient[indexOf(state, state.selected, channel)], { "data-read": `gradient ${channel}` })),
    );
  });
  const head = h("tr", {}, ["output", "raw", "means", "gradient"].map((name) => h("th", { scope: "col" }, name)));
  return [
    h("h2", { id: "outputs" }, "Its outputs and their gradient"),
    h("table", { class: "outputs" }, h("thead", {}, head), h("tbody", {}, rows)),
  ];
}

/** The five terms, each as a number and a bar of which the selected predictor's part is hatched. */
export function termsPanel(state, result) {
  if (!result) return [];
  const here = result.inputs.predictor({ image: 0, ...state.selected });
  const most = Math.max(...Object.values(result.terms));
  const part = (value) => `width: ${most > 0 ? (100 * value) / most : 0}%`;
  const rows = Object.entries(TERMS).map(([term, name]) => {
    const [whole, own] = [result.terms[term], result.paid[term][here]];
    return h(
      "tr",
      { "data-term": term },
      h("th", { scope: "row" }, name),
      h("td", {}, number(whole, { "data-read": "whole" })),
      h("td", {}, number(own, { "data-read": "own" })),
      h("td", { class: "bars", "aria-hidden": "true" }, whole > 0 && h("div", { class: "bar", style: part(whole) }, h("div", { class: "share", style: `width: ${(100 * own) / whole}%` }))),
    );
  });
  const head = ["term", "image", "selected", ""].map((name) => h("th", { scope: "col" }, name));
  return [
    h("h2", { id: "terms" }, "The five terms"),
    h("table", { class: "terms" }, h("thead", {}, h("tr", {}, head)), h("tbody", {}, rows)),
    h("p", { class: "sum" }, "potential ", number(result.potential, { "data-read": "potential" }), ", whose derivative the gradient is"),
  ];
}

/** The truths in the order of their list, and what became of each. */
export function truthsPanel(state, result) {
  const head = ["truth", "class", "x", "y", "w", "h", ""].map((name) => h("th", { scope: "col" }, name));
  const rows = state.truths.flatMap((truth, index) => [
    h(
      "tr",
      {},
      h("th", { scope: "row" }, index),
      [4, 0, 1, 2, 3].map((column) =>
        h("td", {}, field(`truth ${index} ${column}`, truth[column], `truth ${index}, ${["x", "y", "w", "h", "class"][column]}`, column === 4 ? { step: 1 } : { step: 0.01 })),
      ),
      h(
        "td",
        { class: "buttons" },
        button(`earlier ${index}`, "↑", { "aria-label": `Put truth ${index} earlier in the list`, disabled: index === 0 }),
        button(`remove ${index}`, "×", { "aria-label": `Remove truth ${index}` }),
      ),
    ),
    h("tr", { class: "fate" }, h("td", {}), h("td", { colspan: 6, "data-fate": index }, result ? fate(result, index) : "")),
  ]);
  return [
    h("h2", { id: "truths" }, "Truths"),
    state.truths.length
      ? h("table", { class: "truths" }, h("thead", {}, h("tr", {}, head)), h("tbody", {}, rows))
      : h("p", {}, "The image has no truth: MaxIOU is 0 everywhere."),
    h("p", {}, button("add-truth", "Add a truth", { disabled: state.truths.length >= MOST.truths })),
  ];
}

/** Profile, threshold, t, grid, classes and anchors. */
export function settingPanel(state, profiles, profile) {
  const differs = Object.entries(state.options).filter(([axis]) => axis !== "thresh");
  const anchors = state.anchors.map((sizes, k) =>
    h(
      "li",
      {},
      ["width", "height"].map((name, at) => [at ? " × " : "", field(`anchor-size ${k} ${at}`, sizes[at], `${name} of anchor ${k} in cells`, { step: 0.1 })]),
      " ",
      button(`remove-anchor ${k}`, "×", { "aria-label": `Remove anchor ${k}`, disabled: state.anchors.length === 1 }),
    ),
  );
  return [
    h("h2", { id: "setting" }, "Setting"),
    h(
      "div",
      { class: "fields" },
      h("label", {}, "profile ", h("select", { "data-set": "profile", value: state.profile }, Object.keys(profiles).map((name) => h("option", { value: name }, name)))),
      h("label", {}, "threshold ", field("thresh", profile.thresh, "threshold of MaxIOU", { step: 0.05, min: 0 })),
      h("label", {}, "t, images seen ", field("t", state.imagesSeen, "t, images seen", { step: 1, min: 0, class: "long" })),
      h("label", {}, "rows ", field("height", state.height, "rows of the grid", { step: 1, min: 1, max: MOST.side })),
      h("label", {}, "columns ", field("width", state.width, "columns of the grid", { step: 1, min: 1, max: MOST.side })),
      h("label", {}, "classes ", field("classes", state.classes, "number of classes", { step: 1, min: 1, max: MOST.classes })),
    ),
    h("p", { class: "note" }, profile.title, differs.length ? `; here ${differs.map(([axis, value]) => `${axis} = ${value}`).join(", ")}` : ""),
    h("p", { class: "label" }, "anchors, in cells"),
    h("ol", { class: "anchor-list", start: 0 }, anchors),
    h("p", {}, button("add-anchor", "Add an anchor", { disabled: state.anchors.length >= MOST.anchors })),
  ];
}

/** Every predictor in a row of its own, of which a button selects it. */
export function everyPanel(state, result, profile, open) {
  return [
    h(
      "details",
      { open, "data-every": "" },
      h("summary", {}, `Every predictor: ${state.height * state.width * state.anchors.length} of them`),
      open && result && h("div", { class: "scroll" }, everyTable(state, result, profile)),
    ),
  ];
}

function everyTable(state, result, profile) {
  const names = ["row", "column", "anchor", "state", "no-object", "prior", "truth", "pays", "because"];
  const rows = [...result.inputs.places()].map(({ anchor, row, column }) => {
    const told = about(result, profile, { anchor, row, column });
    const decisive = told.state === "responsible" ? told.indicators[2] : told.indicators[0];
    const here = `${anchor} ${row} ${column}`;
    return h(
      "tr",
      { "data-predictor": here },
      h("td", {}, row),
      h("td", {}, column),
      h("td", {}, button(`select ${here}`, anchor, { "aria-label": `Select row ${row}, column ${column}, anchor ${anchor}` })),
      h("td", { class: told.state }, `${LETTERS[told.state]} ${told.state}`),
      told.indicators.map(({ on }) => h("td", {}, on ? "● on" : "○ off")),
      h("td", {}, number(told.pays.reduce((sum, [, value]) => sum + value, 0))),
      h("td", {}, decisive.why),
    );
  });
  return h("table", {}, h("thead", {}, h("tr", {}, names.map((name) => h("th", { scope: "col" }, name)))), h("tbody", {}, rows));
}
