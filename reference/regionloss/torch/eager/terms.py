"""The terms of the boxes and of the objectness, on tensors (spec chapters 5 to 8)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from regionloss.decisions import Match
from regionloss.torch.eager.boxes import decode, iou
from regionloss.torch.eager.decisions import Decisions, TruthLists
from regionloss_spec import Profile

T_O, CLASSES = 4, 5


def no_object_term(t: Tensor, decisions: Decisions, profile: Profile) -> Tensor:
    """λ_noobj·(0 - b_o)² of every predictor whose indicator is 1 (`noobj.value`), 0-d."""
    outputs = t[:, :, T_O:].movedim(2, -1)[decisions.no_object]  # [P, 1+C]
    if profile.objectness == "background":
        return _background(outputs, profile.no_object_weight, background=True)
    residual = torch.sigmoid(outputs[:, 0])
    if profile.no_object_target == "max-iou":
        residual = residual - decisions.max_iou[decisions.no_object]
    return _squared(profile.squared_factor * profile.no_object_weight, residual)


def prior_term(t: Tensor, decisions: Decisions, profile: Profile) -> Tensor:
    """λ_prior·Σ(prior - b)²: a pull towards the middle of the cell and the anchor's size (`prior.value`), 0-d."""
    raw = t[:, :, :4].movedim(2, -1)[decisions.prior]  # [P, 4]
    residual = torch.cat([torch.sigmoid(raw[:, :2]) - 0.5, raw[:, 2:]], dim=1)
    return _squared(profile.squared_factor * profile.prior_weight, residual)


def coord_term(t: Tensor, truths: TruthLists, decisions: Decisions, profile: Profile) -> Tensor:
    """λ_coord·s·Σ(truth - b)² of every responsible predictor (`coord.value`), 0-d."""
    # Without a weight no predictor pays: a decoded size may be infinite, and 0·inf is NaN.
    matches = _boxed(decisions) if profile.coord_weight * profile.squared_factor > 0 else []
    n, k, j, i = indices(matches, t)
    raw = t[n, k, :4, j, i]  # [M, 4]
    rows = truths.of([(match.predictor[0], match.truth) for match in matches])
    place, size = rows[:, :2], rows[:, 2:4]
    grid = torch.tensor([t.shape[4], t.shape[3]], dtype=rows.dtype)
    cell = torch.stack([i, j], dim=1).cpu()
    # The cell is subtracted in float64: in a lower precision a wide grid would cost digits of the target.
    residual_xy = torch.sigmoid(raw[:, :2]) - (place * grid - cell).to(t)
    residual_wh = _size_residual(raw[:, 2:], size, truths.anchors[k.cpu()], grid, profile)
    small = (2 - size.prod(dim=1)) ** profile.small_box_exponent  # [M]
    weight = (profile.squared_factor * profile.coord_weight * small).to(t)[:, None]
    return _squared(weight, torch.cat([residual_xy, residual_wh], dim=1))


def object_term(t: Tensor, truths: TruthLists, decisions: Decisions, profile: Profile) -> Tensor:
    """λ_obj·(IoU - b_o)² of every responsible predictor (`object.value`, `object.target-constant`), 0-d."""
    matches = _boxed(decisions)
    n, k, j, i = indices(matches, t)
    outputs = t[n, k, :, j, i]  # [M, 5+C]
    if profile.objectness == "background":
        return _background(outputs[:, T_O:], profile.object_weight, background=False)
    residual = torch.sigmoid(outputs[:, T_O]) - _object_target(t, matches, truths, decisions, profile)
    return _squared(profile.squared_factor * profile.object_weight, residual)


def indices(matches: list[Match], t: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Where the predictors of some matches are in `[N, A, H, W]`: n, k, j, i, each `[M]`."""
    table = torch.tensor([match.predictor for match in matches], dtype=torch.long, device=t.device).reshape(-1, 4)
    n, k, j, i = table.unbind(dim=1)
    return n, k, j, i


def _squared(weight: float | Tensor, residual: Tensor) -> Tensor:
    """Σ weight·r². The weight comes first, so that r² alone cannot overflow where weight·r² would not."""
    return (weight * residual * residual).sum()


def _boxed(decisions: Decisions) -> list[Match]:
    return [match for match in decisions.matches if match.pays_box]


def _size_residual(raw: Tensor, size: Tensor, anchors: Tensor, grid: Tensor, profile: Profile) -> Tensor:
    """Residuals of widths and heights `[M, 2]` (`coord.size-target`).

    `raw` are tw and th, `size` the truths' in fractions of the image; `anchors` and `grid`, W and H, are in cells.
    """
    if profile.size_space == "log":
        floor = 1.0 if profile.size_target_floor == "one-cell" else 0.0
        return raw - torch.log((size * grid).clamp(min=floor) / anchors).to(raw)
    if profile.size_space == "decoded":
        return anchors.to(raw) * torch.exp(raw) - (size * grid).to(raw)
    # √(e^t) as e^(t/2): the derivative of a root is infinite where e^t underflows to 0.
    return torch.sqrt(anchors / grid).to(raw) * torch.exp(raw / 2) - torch.sqrt(size).to(raw)


def _object_target(
    t: Tensor, matches: list[Match], truths: TruthLists, decisions: Decisions, profile: Profile
) -> Tensor:
    """The target of the objectness of each match, `[M]`; constant unless the profile lets it flow."""
    if profile.object_target == "one":
        return t.new_ones(len(matches))
    n, k, j, i = indices(matches, t)
    if profile.object_target == "iou":
        constant = torch.tensor([match.iou for match in matches], dtype=t.dtype, device=t.device)
        of = [match.truth for match in matches]
    else:
        constant = decisions.max_iou[n, k, j, i]
        of = decisions.best_truth[n, k, j, i].tolist()
    if profile.object_target_gradient == "constant":
        return constant
    (flows,) = torch.nonzero(constant > 0, as_tuple=True)  # elsewhere the derivative is 0, and the box may be infinite
    rows = truths.of([(matches[m].predictor[0], of[m]) for m in flows.tolist()]).to(t)
    n, k, j, i = n[flows], k[flows], j[flows], i[flows]
    anchors = truths.anchors.to(t)[k]
    boxes = decode(t[n, k, :4, j, i].T, i, j, anchors.T, t.shape[3], t.shape[4])
    return constant.index_put((flows,), iou(boxes, rows[:, :4].T))


def _background(outputs: Tensor, weight: float, background: bool) -> Tensor:
    """The term of an objectness that joins the softmax as class "background" (`object.background`), 0-d.

    `outputs` are t_o and the class outputs, `[P, 1+C]`; only t_o gets a gradient.
    """
    t_o, z = outputs[:, 0], outputs[:, 1:].detach()
    # p_bg = σ(t_o - ln Σ e^z), so that -ln p_bg and -ln(1 - p_bg) are those of a logistic output.
    logit = t_o - torch.logsumexp(z, dim=1)
    return -weight * F.logsigmoid(logit if background else -logit).sum()
