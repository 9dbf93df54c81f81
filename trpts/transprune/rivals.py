"""Criteria of other papers, behind TransPrune's interface: with the counts of the Schedule, for
batches, padding, caches and beams, in every family.

DivPrune (Alvar et al., CVPR 2025), CDPruner (Zhang et al., NeurIPS 2025) and VisionZip (Yang et
al., CVPR 2025) choose before the language model: that is behind layer 0. Behind another layer the
first two choose among its hidden states, which is not what their papers measured. SparseVLM (Zhang
et al., ICML 2025) chooses behind layers. FastV and PyramidDrop are in `criteria`: they ask as
TransPrune asks.
"""

from collections.abc import Iterator

import torch
from torch.nn.functional import normalize

from trpts.transprune.criteria import Candidates, criterion

RECYCLED, IN_A_CLUSTER = 0.3, 10  # SparseVLM: share of the dropped that is recycled; cluster size
EPS = 1e-6


def _sets(c: Candidates) -> Iterator[tuple[int, torch.Tensor, int]]:
    """(row, places int64 [n] of a group's image tokens in it, how many stay) of each group."""
    for row, image in enumerate(c.image):
        for group in c.group[row][image].unique():
            places = (image & (c.group[row] == group)).nonzero().flatten()
            yield row, places, int(c.n_keep[row, places[0]])


def _in_order(c, pick):
    """Scores of which a group's tokens are the larger, the earlier `pick` (row, places, n) has
    them: n … 1, and 0 for those that it leaves.
    """
    scores = torch.zeros_like(c.ttv)
    for row, places, n in _sets(c):
        picked = places[pick(row, places, n)]
        scores[row, picked] = torch.arange(n, 0, -1, device=scores.device, dtype=scores.dtype)
    return scores


@criterion(macs=lambda n, kept, asked, d: n * n * d)
def divprune(c: Candidates) -> torch.Tensor:
    """DivPrune: the set whose nearest two are farthest apart, by 1 − cosine, found greedily.

    The first is the token whose nearest neighbour is farthest, each next the one that is farthest
    from its nearest among those chosen.
    """

    def pick(row, places, n):
        x = normalize(c.hidden[row, places].float(), dim=1)
        distance = 1 - x @ x.mT  # [n, n]
        others = distance.clone().fill_diagonal_(torch.inf)
        nearest, chosen = others.amin(1).nan_to_num(posinf=0.0), []
        for step in range(n):
            chosen.append(int(nearest.argmax()))
            latest = distance[chosen[-1]]
            nearest = torch.minimum(nearest, latest) if step else latest.clone()
            nearest[chosen] = -torch.inf
        return chosen

    return _in_order(c, pick)


def relevance(image: torch.Tensor, asked: torch.Tensor) -> torch.Tensor:
    """CDPruner's r [n] in (0, 1] of image tokens [n, D]: minus the mean cosine with those of the
    instruction [l, D], from the smallest to the largest.

    The paper takes CLIP's embeddings of image and text, and the released code turns the cosine's
    sign. Most models come without CLIP's text side: we take the language model's own embeddings of
    both, and the sign as in the code.
    """
    if not len(asked):
        raise ValueError(
            "score='cdpruner' without an instruction token: expected text behind the images"
        )
    r = -(normalize(image, dim=1) @ normalize(asked, dim=1).mean(0))
    return (r - r.min() + EPS) / (r.max() - r.min()).clamp_min(EPS)


@criterion(macs=lambda n, kept, asked, d: n * n * (d + 2) + n * kept * kept // 2 + (n + asked) * d)
def cdpruner(c: Candidates) -> torch.Tensor:
    """CDPruner: the likeliest set of a determinantal point process, greedily, with the kernel
    r_i · cos(x_i, x_j) · r_j, r the `relevance`: tokens unlike each other that the instruction asks
    for.
    """

    def pick(row, places, n):
        tokens = c.hidden[row, places].float()
        r = relevance(tokens, c.hidden[row, c.instruction[row]].float())
        x = normalize(tokens, dim=1)
        kernel = r[:, None] * (x @ x.mT) * r  # [n, n]
        left, basis, chosen = kernel.diagonal().clone(), kernel.new_zeros(n, len(kernel)), []
        for step in range(n):  # a row of the kernel's Cholesky factor for each token chosen
            j = int(left.argmax())
            known = basis[:step, j] @ basis[:step]
            basis[step] = (kernel[j] - known) / left[j].clamp_min(EPS**2).sqrt()
            left = left - basis[step] ** 2
            chosen.append(j)
            left[chosen] = -torch.inf
        return chosen

    return _in_order(c, pick)


def raters(embeds: torch.Tensor, image: torch.Tensor, instruction: torch.Tensor) -> torch.Tensor:
    """SparseVLM's raters, bool [N]: tokens of the instruction that the image is about, of embeds
    [N, D]: those to which image tokens, each by a softmax over the instruction, give at least the
    mean of it.
    """
    given = (embeds[image].float() @ embeds[instruction].float().mT).softmax(1).mean(0)  # [l]
    chosen = torch.zeros_like(instruction)
    chosen[instruction] = given >= given.mean() - EPS
    return chosen


def n_clusters(n: int, kept: int) -> int:
    """How many of the `kept` of n tokens are SparseVLM's clusters of recycled ones.

    The paper recycles a share of those that it drops, and has a tenth of these in the end beside
    those that it keeps. So that all methods keep equally many, they are among the kept here, one
    token at most half of them.
    """
    return min((int(RECYCLED * (n - kept)) + 1) // IN_A_CLUSTER + 1, kept // 2)


def _recycled(c, row, places, n, scores):
    """(places of the n − m best, places of the recycled, the m of these that are centres, for each
    recycled the number of its centre).
    """
    m = n_clusters(len(places), n)
    order = places[scores[row, places].argsort(descending=True, stable=True)]
    best, dropped = order[: n - m], order[n - m :]
    taken = dropped[: max(m, int(RECYCLED * (len(places) - n)) + 1)].sort().values
    x = c.hidden[row, taken].float()
    distance = torch.cdist(x, x) / x.shape[1] ** 0.5
    density = (-(distance.topk(max(1, m), largest=False).values ** 2).mean(1)).exp()
    # as far as the nearest denser one, of equals the first; the densest: as far as any
    rank = density.argsort(descending=True, stable=True).argsort()
    denser = rank[None, :] < rank[:, None]
    apart = distance.masked_fill(~denser, distance.max()).amin(1)
    centres = (apart * density).argsort(descending=True, stable=True)[:m]
    return best, taken, centres, distance[:, centres].argmin(1) if m else None


def _merge_recycled(c: Candidates, keep: torch.Tensor) -> torch.Tensor:
    hidden, scores = c.hidden.clone(), c.parts["attention"]
    for row, places, n in _sets(c):
        if n < len(places):
            _, taken, centres, of = _recycled(c, row, places, n, scores)
            for number, centre in enumerate(centres):
                hidden[row, taken[centre]] = c.hidden[row, taken[of == number]].mean(0)
    return hidden


@criterion(
    asks="instruction",
    macs=lambda n, kept, asked, d: n * asked * d + int(RECYCLED * (n - kept) + 1) ** 2 * d,
    merge=_merge_recycled,
)
def sparsevlm(c: Candidates) -> torch.Tensor:
    """SparseVLM: attention of the `raters` to image tokens; of those that it would drop the best
    part is clustered (DPC-kNN), and a cluster's mean stays in its centre's place.

    The counts are the Schedule's in place of the paper's, which follow the attention's rank; the
    released code has tables of counts too.
    """
    raters_of = torch.stack([raters(*row) for row in zip(*c.before, strict=True)])
    asked = raters_of[:, -c.image.shape[1] :] & c.instruction
    attention = c.attention(asked)
    c.parts["attention"] = attention
    scores = torch.zeros_like(attention)
    for row, places, n in _sets(c):
        scores[row, places] = attention[row, places]
        if n < len(places):
            best, taken, centres, _ = _recycled(c, row, places, n, attention)
            scores[row, best] += 2  # attention is at most 1
            scores[row, taken[centres]] += 1
    return scores


@criterion(first=True, macs=lambda n, kept, asked, d: n * d + (n - kept) * kept * d // 6)
def visionzip(c: Candidates) -> torch.Tensor:
    """VisionZip: as `vision_tower.Zip` found in the vision tower, which also merged tokens there.

    macs: its products have the tower's width; the language model's, which is larger, is counted.
    """
    if c.tower is None:
        raise ValueError("score='visionzip': the vision tower has not run: expected pixel_values")
    if len(c.tower) != int(c.image.any(1).sum()):
        raise ValueError(
            f"score='visionzip' with {len(c.tower)} images in {int(c.image.any(1).sum())} rows: "
            "expected one in each, as it keeps so many of every image"
        )
    scores = torch.zeros_like(c.ttv)
    scores[c.image] = c.tower.to(scores).flatten()
    return scores
