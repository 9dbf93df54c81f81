"""Criteria of other papers, behind TransPrune's interface: with the counts of the Schedule, for
batches, padding, caches and beams, in every family.

DivPrune (Alvar et al., CVPR 2025), CDPruner (Zhang et al., NeurIPS 2025) and VisionZip (Yang et
al., CVPR 2025) choose before the language model: that is behind layer 0. Behind another layer the
first two choose among its hidden states, which is not what their papers measured. SparseVLM (Zhang
et al., ICML 2025) chooses behind layers. FastV and PyramidDrop are in `criteria`: they ask as
TransPrune asks.

In the four papers' codes what is left is numbered anew (positions="compact"), and a LLaVA-NeXT's
ends of lines are no candidates, which they are here.
"""

from collections.abc import Callable, Iterator

import torch
from torch.nn.functional import normalize

from trpts.transprune.criteria import Candidates, criterion

RECYCLED, IN_A_CLUSTER = 0.3, 10  # SparseVLM: share of the dropped that is recycled; cluster size
EPS = 1e-6


def _groups(c: Candidates) -> Iterator[tuple[int, torch.Tensor, int]]:
    """(row, places int64 [n] of a group's image tokens in it, how many stay) of each group."""
    for row, image in enumerate(c.image):
        for group in c.group[row][image].unique():
            places = (image & (c.group[row] == group)).nonzero().flatten()
            yield row, places, int(c.n_keep[row, places[0]])


def _in_order(c: Candidates, pick: Callable[[int, torch.Tensor, int], list[int]]) -> torch.Tensor:
    """Scores that are the larger, the earlier `pick` (row, places, n) has a group's token: n … 1,
    and 0 for those that it leaves.
    """
    scores = torch.zeros_like(c.ttv)
    for row, places, n in _groups(c):
        scores[row, places[pick(row, places, n)]] = torch.arange(n, 0, -1).to(scores)
    return scores


def farthest(x: torch.Tensor, n: int) -> list[int]:
    """DivPrune's n of tokens x [N, D], so that the nearest two lie far apart by 1 − cosine: first
    the token whose nearest neighbour is farthest, then the one farthest from all chosen, and so on.
    """
    x = normalize(x.float(), dim=1)
    distance = 1 - x @ x.mT  # [N, N]
    nearest = distance.clone().fill_diagonal_(torch.inf).amin(1)
    chosen: list[int] = []
    for step in range(n):
        chosen.append(int(nearest.argmax()))
        latest = distance[chosen[-1]]
        nearest = torch.minimum(nearest, latest) if step else latest.clone()
        nearest[chosen[-1]] = -torch.inf
    return chosen


@criterion(macs=lambda n, kept, asked, d: n * n * d)
def divprune(c: Candidates) -> torch.Tensor:
    """DivPrune: tokens unlike each other, the `farthest`."""
    return _in_order(c, lambda row, places, n: farthest(c.hidden[row, places], n))


def relevance(image: torch.Tensor, asked: torch.Tensor) -> torch.Tensor:
    """CDPruner's r [N] in (0, 1] of image tokens [N, D]: minus the mean cosine with those of the
    instruction [l, D], from the smallest to the largest.

    The paper takes CLIP's embeddings of image and text, and the released code turns the cosine's
    sign. Most models come without CLIP's text side: we take the language model's own embeddings of
    both, and the sign as in the code.
    """
    if not len(asked):
        raise ValueError(
            "score='cdpruner' without an instruction token: expected text behind the images"
        )
    r = -(normalize(image.float(), dim=1) @ normalize(asked.float(), dim=1).mean(0))
    return (r - r.min() + EPS) / (r.max() - r.min()).clamp_min(EPS)


def likeliest(x: torch.Tensor, r: torch.Tensor, n: int) -> list[int]:
    """CDPruner's n of tokens x [N, D]: the set that a determinantal point process with the kernel
    r_i · cos(x_i, x_j) · r_j finds likely, greedily, by rows of the kernel's Cholesky factor.
    """
    x = normalize(x.float(), dim=1)
    kernel = r[:, None] * (x @ x.mT) * r  # [N, N]
    left, factor, chosen = kernel.diagonal().clone(), kernel.new_zeros(n, len(kernel)), []
    for step in range(n):
        j = int(left.argmax())
        known = factor[:step, j] @ factor[:step]
        factor[step] = (kernel[j] - known) / left[j].clamp_min(EPS**2).sqrt()
        left = left - factor[step] ** 2
        chosen.append(j)
        left[j] = -torch.inf
    return chosen


@criterion(macs=lambda n, kept, asked, d: n * n * (d + 2) + n * kept * kept // 2 + (n + asked) * d)
def cdpruner(c: Candidates) -> torch.Tensor:
    """CDPruner: tokens unlike each other that the instruction asks for, the `likeliest`."""

    def pick(row, places, n):
        tokens = c.hidden[row, places]
        return likeliest(tokens, relevance(tokens, c.hidden[row, c.instruction[row]]), n)

    return _in_order(c, pick)


def raters(embeds: torch.Tensor, image: torch.Tensor, instruction: torch.Tensor) -> torch.Tensor:
    """SparseVLM's raters, bool [N], of embeds [N, D]: tokens of the instruction that the image is
    about. Each image token spreads 1 over the instruction by a softmax of inner products; raters
    get at least the mean.
    """
    chosen = torch.zeros_like(instruction)
    if image.any() and instruction.any():
        given = (embeds[image].float() @ embeds[instruction].float().mT).softmax(1).mean(0)  # [l]
        chosen[instruction] = given >= given.mean() - EPS
    return chosen


def n_clusters(n: int, kept: int) -> int:
    """How many of the `kept` of n tokens are SparseVLM's clusters of recycled ones.

    The paper recycles a share of those that it drops, and has a tenth of these in the end beside
    those that it keeps. So that all methods keep equally many, they are among the kept here, and at
    most half of them.
    """
    return min((int(RECYCLED * (n - kept)) + 1) // IN_A_CLUSTER + 1, kept // 2)


def clusters(x: torch.Tensor, m: int) -> tuple[torch.Tensor, torch.Tensor]:
    """(the m centres, the number of each token's own) of tokens x [N, D], by DPC-kNN: a centre has
    near neighbours, and the next token with nearer ones is far.
    """
    distance = torch.cdist(x.float(), x.float()) / x.shape[1] ** 0.5
    density = (-(distance.topk(m, largest=False).values ** 2).mean(1)).exp()
    rank = density.argsort(descending=True, stable=True).argsort()  # of equals the first is denser
    apart = distance.masked_fill(rank >= rank[:, None], distance.max()).amin(1)
    centres = (apart * density).argsort(descending=True, stable=True)[:m]
    of = distance[:, centres].argmin(1)
    of[centres] = torch.arange(m, device=of.device)
    return centres, of


@criterion(
    asks="raters",
    macs=lambda n, kept, asked, d: n * asked * d + int(RECYCLED * (n - kept) + 1) ** 2 * d,
)
def sparsevlm(c: Candidates) -> torch.Tensor:
    """SparseVLM: attention of the `raters` to image tokens. The best of what it would drop is
    recycled: tokens alike are one cluster, whose mean stays in its centre's place.

    The counts are the Schedule's. In the paper they follow the attention's rank, and in the
    released code, which puts clusters behind the kept tokens and beside their count, a table.
    """
    attention = c.attention(c.raters)
    scores = attention.clone()  # attention is at most 1
    for row, places, n in _groups(c):
        m = n_clusters(len(places), n) if n < len(places) else 0
        order = places[attention[row, places].argsort(descending=True, stable=True)]
        scores[row, order[: n - m]] += 2
        if m:
            recycled = order[n - m :][: max(m, int(RECYCLED * (len(places) - n)) + 1)].sort().values
            centres, of = clusters(c.hidden[row, recycled], m)
            scores[row, recycled[centres]] += 1
            for number, centre in enumerate(recycled[centres].tolist()):
                c.merged.append((row, centre, recycled[of == number]))
    return scores


@criterion(first=True, macs=lambda n, kept, asked, d: n * d + (n - kept) * kept * d // 6)
def visionzip(c: Candidates) -> torch.Tensor:
    """VisionZip: as `vision_tower.Zip` found in the vision tower, which also merged tokens there.

    macs: its products have the tower's width; the language model's, which is larger, is counted.
    A tower without a class token takes n · n · d more.
    """
    if c.tower is None:
        raise ValueError("score='visionzip': the vision tower has not run: expected pixel_values")
    rows = int(c.image.any(1).sum())
    times, over = divmod(rows, len(c.tower))  # beams repeat rows
    if over or not times:
        raise ValueError(
            f"score='visionzip' with {len(c.tower)} images in {rows} rows: expected one in each, "
            "as it keeps so many of every image"
        )
    scores = torch.zeros_like(c.ttv)
    scores[c.image] = c.tower.to(scores).repeat_interleave(times, dim=0).flatten()
    return scores
