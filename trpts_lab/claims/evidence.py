"""Queries to committed records and benches, on which verdicts rest; a gap names its remedy."""

from functools import cache, cached_property
from statistics import fmean, stdev

import timm
import torch
from scipy.stats import t

from trpts.errors import TrptsError
from trpts_lab import grid, stats
from trpts_lab.bench.files import read_whole
from trpts_lab.further import further_cells
from trpts_lab.profiles import load_profile
from trpts_lab.store import NotThere

REPRODUCED, HOLDS, FAILS = "reproduced", "holds in the lab", "does not hold in the lab"
CONFIRMED = "confirmed by the source"
CONTRADICTED, INCONSISTENT = "contradicted by the source", "inconsistent in itself"
UNDECIDED, UNCONFIRMED = "undecided in the lab", "unconfirmed"
UNTESTABLE, MISSING = "not testable here", "not measured yet"
VERDICTS = (
    REPRODUCED,
    HOLDS,
    FAILS,
    CONFIRMED,
    CONTRADICTED,
    INCONSISTENT,
    UNDECIDED,
    UNCONFIRMED,
    UNTESTABLE,
    MISSING,
)
DEVICE = "cpu"  # of the records that the book shows
MARGIN = 0.01  # a loss of accuracy that is called none


CHECKS = {}  # id -> [(evidence) -> (verdict, in words, what it rests on)], one for each half


def check(name):
    """Register the check of a claim; of a claim that joins several, those of its halves in turn."""

    def register(function):
        CHECKS.setdefault(name, []).append(function)
        return function

    return register


class NotMeasured(Exception):
    """Evidence that is not there; the message says what makes it."""


class Evidence:
    """Committed records and benches of a project."""

    def __init__(self, project):
        self.project, self.store = project, project.store("full")

    @cached_property
    def profile(self):
        return load_profile(self.project, "full")

    @cache  # noqa: B019 - one object per command
    def records(self, kind):
        """All committed records of a kind, made on DEVICE."""
        found = [r for r in self.store.records(kind) if r["config"]["device"] == DEVICE]
        if not found:
            raise NotMeasured(f"records of {kind}: `trpts run --profile full`")
        return found

    def bench(self, name):
        """{work: row} of a committed bench on CPU."""
        return self.whole_bench(name)["rows"]

    def whole_bench(self, name):
        """All that the file of a committed bench on CPU says."""
        try:
            return read_whole(self.project, name, DEVICE)
        except TrptsError:
            raise NotMeasured(f"a bench: `trpts bench {name}`") from None

    def compared(self, *methods):
        """Records of methods of the comparison on the compared tasks; each must be there."""
        tasks, found = self.profile["benchmark"]["sweep"]["compared_tasks"], []
        for method in methods:
            try:
                cells = grid.comparison_cells(
                    self.profile, self.store, tasks, [method], device=DEVICE
                )
            except NotThere:
                raise NotMeasured(
                    f"the learning rate of {method}: `trpts sweep --tuning`"
                ) from None
            some = self.store.found(cells)
            if not some:
                raise NotMeasured(f"runs of {method}: `trpts sweep`")
            found += some
        return found

    def gap(self, method, rival):
        """(mean, low, high) of method − rival over tasks, in accuracy."""
        return gap_of(self.compared(method, rival), method, rival, "`trpts sweep`")

    def ablation(self, figure, variant, base):
        """(mean, low, high) of an ablation's variant − base over tasks, in accuracy."""
        return gap_of(
            self.ablation_records(figure), variant, base, f"`trpts sweep --ablations '{figure}'`"
        )

    def ablation_records(self, figure):
        """The records of an ablation's variants that are there."""
        try:
            cells = grid.ablation_cells(self.profile, self.store, [figure], device=DEVICE)
        except NotThere:
            raise NotMeasured("the learning rate of TR-PTS: `trpts sweep --tuning`") from None
        return self.store.found(cells)

    def further(self, name, whole=True):
        """The records of a name in `trpts_lab.further`; `whole`: all of its runs must be there."""
        try:
            cells = further_cells(self.profile, self.store, [name], device=DEVICE)
        except NotThere:
            raise NotMeasured("learning rates: `trpts sweep --tuning`") from None
        found = self.store.found(cells)
        if whole and len(found) < len(cells):
            raise NotMeasured(
                f"{len(cells) - len(found)} of {len(cells)} runs: `trpts sweep --further {name}`"
            )
        return found

    @cache  # noqa: B019
    def pruned(self, variant):
        """{seed: metrics} of a variant of token pruning."""
        found = {
            r["config"]["seed"]: r["metrics"]
            for r in self.records("pruning")
            if r["config"]["variant"] == variant
        }
        if not found:
            raise NotMeasured(
                f"records of pruning, {variant}: `trpts run --profile full --only 05`"
            )
        return found

    def pruned_gap(self, variant, rival, metric=lambda m: m["mean_accuracy"]):
        """(mean, low, high) of variant − rival over seeds, 95 % by Student's t: each seed draws its
        own scenes.
        """
        a, b = self.pruned(variant), self.pruned(rival)
        gaps = [metric(a[seed]) - metric(b[seed]) for seed in sorted(a.keys() & b.keys())]
        return interval(gaps)

    @cached_property
    def vit_b(self):
        """ViT-B/16 at 224 pixels without weights."""
        with torch.device("meta"):
            return timm.create_model("vit_base_patch16_224", num_classes=1000)


def gap_of(records, variant, base, command):
    """(mean, low, high) of variant − base over tasks; NotMeasured: runs missing or one seed."""
    some = [r for r in records if r["config"]["variant"] in (variant, base)]
    if any("diverged" in r["metrics"] for r in some):
        raise NotMeasured(
            f"runs that do not diverge: of {variant} or {base} one did, at the learning rate chosen"
        )
    try:
        found = stats.paired_interval(some, variant, base)
    except TrptsError:
        raise NotMeasured(f"runs of {variant} and {base}: {command}") from None
    if stats.complete(stats.scores(some))["seed"].nunique() < 2:
        raise NotMeasured(
            f"a second seed ({command}); the first says {points(found)} for {variant} against "
            f"{base}"
        )
    return found


def interval(values):
    """(mean, low, high): 95 % by Student's t."""
    if len(values) < 2:
        raise NotMeasured("more than one seed")
    mean = fmean(values)
    half = t.ppf(0.975, len(values) - 1) * stdev(values) / len(values) ** 0.5
    return mean, mean - half, mean + half


def decide(low, high, better=0.0):
    """A claim that a number lies above `better`, by its interval."""
    return HOLDS if low > better else FAILS if high < better else UNDECIDED


def loses_less_than(margin, gap):
    """Whether a (mean, low, high) gap is no loss; undecided where the interval holds the margin."""
    return decide(gap[1], gap[2], -margin)


def points(gap):
    """A difference of accuracies in words."""
    return "{:+.1f} points ({:+.1f} to {:+.1f})".format(*(100 * x for x in gap))
