// Which indicator is on at a predictor, and why, in words.

export const TERMS = {
  no_object: "no-object",
  prior: "prior",
  coord: "coordinates",
  object: "objectness",
  class: "class",
};

/** A number as `regionloss explain` prints it: five digits. */
export function short(value) {
  if (!Number.isFinite(value) || value === 0) return String(value === 0 ? 0 : value);
  const [digits, exponent] = value.toExponential(4).split("e").map(Number);
  return exponent < -4 || exponent > 15 ? `${digits}e${exponent}` : String(Number(value.toPrecision(5)));
}

/**
 * What is said about one predictor.
 * @returns {{state: string, indicators: {name: string, formula: string, on: boolean, why: string}[],
 *   pays: [string, number][], maxIou: number, nearest: number}} `state` is responsible, ignored or no-object
 */
export function about(result, profile, place) {
  const { decisions, inputs, paid } = result;
  const here = inputs.predictor({ image: 0, ...place });
  const chosen = decisions.matches.filter((match) => inputs.predictor(match.place) === here);
  const own = chosen.filter(({ paysBox }) => paysBox);
  const maxIou = decisions.maxIou[here];
  const nearest = decisions.nearest[here];
  return {
    state: own.length ? "responsible" : decisions.ignored[here] ? "ignored" : "no-object",
    indicators: [
      {
        name: "no-object",
        formula: "1{MaxIOU < Thresh}",
        on: decisions.noObject[here],
        why: whyNoObject(profile, own, maxIou, nearest),
      },
      { name: "prior", formula: `1{t < ${profile.prior_until}}`, on: decisions.prior[here], why: whyPrior(inputs, profile, own) },
      { name: "truth", formula: "1^truth", on: own.length > 0, why: whyTruth(profile, chosen, own, place) },
    ],
    pays: Object.keys(TERMS).map((term) => [term, paid[term][here]]).filter(([, value]) => value !== 0),
    maxIou,
    nearest,
  };
}

function whyNoObject(profile, own, maxIou, nearest) {
  const found = nearest < 0 ? "MaxIOU 0 (no truth)" : `MaxIOU ${short(maxIou)} (truth ${nearest})`;
  if (own.length && profile.no_object_applies === "not-responsible") {
    return `it is responsible, so ${found} is not asked`;
  }
  if (profile.no_object_target === "max-iou") return `${found}, which is the target here; nobody is ignored`;
  if (profile.ignore === "none") return `${found}; this profile ignores nobody`;
  const relation = maxIou > profile.thresh ? ">" : maxIou < profile.thresh ? "<" : "=";
  const equal = { above: "only above it is a predictor ignored", "at-or-above": "at it a predictor is ignored already" };
  return `${found} ${relation} ${short(profile.thresh)}${relation === "=" ? `: ${equal[profile.ignore]}` : ""}`;
}

function whyPrior({ imagesSeen }, profile, own) {
  if (profile.prior_until === 0) return "this profile has no prior";
  if (imagesSeen >= profile.prior_until) return `t = ${imagesSeen} ≥ ${profile.prior_until}`;
  const early = `t = ${imagesSeen} < ${profile.prior_until}`;
  if (own.length && profile.prior_applies === "not-responsible") return `${early}, but its truth takes the prior's place`;
  return early;
}

const FITS = {
  "anchor-shape": "IoU of the shapes",
  "anchor-corner": "IoU with the anchor at the cell's corner",
  "predicted-shape": "IoU with the predicted shape",
  "predicted-iou": "IoU with the predicted box",
};

function whyTruth(profile, chosen, own, { anchor }) {
  if (chosen.length === 0) return "no truth has chosen it";
  const names = (matches) => `truth ${matches.map(({ index }) => index).join(" and ")}`;
  const fit = short(own[0].fits[anchor]);
  const tied = own[0].fits.filter((one) => one === own[0].fits[anchor]).length > 1 ? ", the first of a tie" : "";
  const lies = `${names(own)} has its centre in this cell and fits this anchor best (${FITS[profile.anchor_choice]} ${fit}${tied})`;
  const others = chosen.filter((match) => !own.includes(match));
  if (!others.length) return lies;
  const order = profile.collision === "first" ? "came later" : "came earlier";
  return `${lies}; ${names(others)} chose it too, but ${order} and is not paid`;
}

/** What became of a truth. */
export function fate(result, index) {
  const match = result.decisions.matches.find((one) => one.index === index);
  if (match === undefined) return "not read: the list ended before it";
  const { anchor, row, column } = match.place;
  const place = `row ${row}, column ${column}, anchor ${anchor}`;
  if (match.paysBox) return `${place} is responsible`;
  const here = result.inputs.predictor(match.place);
  const winner = result.decisions.matches.find((one) => one.paysBox && result.inputs.predictor(one.place) === here);
  return `chose ${place}, where truth ${winner.index} is paid instead`;
}
