"""What is swept: the choice of learning rates, the comparison of methods, the ablations of TR-PTS.

tuning      each family of methods × the profile's learning rates × tuning tasks, seed 0: what
            decides is the mean accuracy on their validation images, and the choice is computed from
            these records whenever it is needed
comparison  each method × the profile's compared tasks × seeds, at the rate chosen for its family;
            and CORE, the methods that matter most, on every task, first seed
ablations   each switch of TR-PTS (`trpts_lab.compared`) × tuning tasks × seeds, at the rate chosen
            for TR-PTS; what is a method of the comparison, or trains the head alone, at the rate
            chosen for that

A run that two of these ask for has one record. Tasks, rates, epochs and batch size are the
profile's, and so is which of two comparisons is swept: the drawn laboratory's, or the fair one on
real weights and images. In the fair one

- each method has a rate of its own, of rates a factor of two apart, which are extended until the
  best has a worse one on both sides (`rates_to_try`);
- the head has a rate of its own, the best for training the head alone;
- scores are taken with a head that is fitted on other images than those scored;
- all selections have the connections of each layer that Fisher's score allocates.
"""

from statistics import fmean

from trpts.device import pick_device
from trpts.errors import TrptsError
from trpts_lab.compared import (
    ABLATIONS,
    COMPARISONS,
    HEAD,
    METHODS,
    OURS,
    RATE_OF,
    SEEDS,
    SMALL_STEPS,
)
from trpts_lab.experiments import tuned
from trpts_lab.records import key_of
from trpts_lab.store import NotThere

AT_MOST = 12  # rates by which a choice may be extended on either side


def comparison_of(profile):
    """The Comparison that a profile sweeps."""
    return COMPARISONS[profile["benchmark"]["sweep"].get("comparison", "laboratory")]


def common(profile, device=None):
    """What all cells of a profile share; `device` None: this machine's."""
    benchmark, device = profile["benchmark"], device or pick_device()
    exactness = (
        {"matmul": benchmark["matmul"][device]} if device in benchmark.get("matmul", {}) else {}
    )
    return {
        "profile": profile["profile"],
        "device": device,
        "backbone": benchmark["backbone"],
        "weights": benchmark["weights"],
        **{name: benchmark["sweep"][name] for name in ("epochs", "batch_size")},
        **benchmark.get("reading", {}),
        **exactness,
    }


def tuning_cells(profile, store, methods=None, device=None):
    """[(experiment, configuration)] of the choice of learning rates, method by method.

    Of the fair comparison those known so far: once they have records, the next call may give more
    (`rates_to_try`).
    """
    how = comparison_of(profile)
    families = dict.fromkeys(
        how.family.get(method, method) for method in known_methods(profile, methods)
    )
    cells = [
        cell for family in families for cell in _cells_of_rates(profile, store, family, device)[0]
    ]
    # each cell once: several families may wait for the same one
    return list({key_of(config): (experiment, config) for experiment, config in cells}.values())


def _cells_of_rates(profile, store, family, device):
    """(a family's tuning cells, {rate: mean validation accuracy} or None before all are there)"""
    how, swept = comparison_of(profile), profile["benchmark"]["sweep"]
    shared = common(profile, device)
    if how.fair and family != HEAD:
        cells, means = _cells_of_rates(profile, store, HEAD, device)
        if means is None:
            return cells, None  # the head's rate comes first
        shared["head_lr"] = best_rate(means)
    rates = rates_of(profile, family)
    for _ in range(AT_MOST if how.fair else 1):
        cells = [
            (tuned, tuned.cell(family, *how.methods[family], task, seed, lr, **shared))
            for seed in how.tuning_seeds
            for task in swept["tuning_tasks"]
            for lr in rates
        ]
        if not cells:
            raise TrptsError(
                f"the profile {profile['profile']!r} has no tuning tasks or no learning rates to "
                f"choose {family}'s from: expected some under benchmark, sweep"
            )
        found = store.found(cells)
        if len(found) < len(cells):
            return cells, None
        accuracy = {}
        for record in found:
            accuracy.setdefault(record["config"]["lr"], []).append(
                record["metrics"]["val_accuracy"]
            )
        means = {lr: fmean(values) for lr, values in accuracy.items()}
        more = rates_to_try(means) if how.fair else []
        if not more:
            return cells, means
        rates = sorted([*rates, *more])
    raise TrptsError(
        f"{family}: no learning rate from {rates[0]:g} to {rates[-1]:g} has a worse one on both "
        "sides"
    )


def rates_of(profile, family):
    """The learning rates that a method's choice begins with."""
    rates = profile["benchmark"]["sweep"]["rates"]
    return rates[family] if family in rates else rates["all" if family in SMALL_STEPS else "few"]


def best_rate(means):
    """The rate of best mean validation accuracy; the largest of equals, as small ones do little."""
    return max(means, key=lambda lr: (means[lr], lr))


def rates_to_try(means):
    """The next rate to try, half or twice the best of {rate: accuracy} if that lies at an end."""
    best = best_rate(means)
    return [best / 2] * (best == min(means)) + [best * 2] * (best == max(means))


def chosen_rates(profile, store, methods=None, device=None):
    """{method: (learning rate, {rate: mean validation accuracy})} from the records of the tuning in
    `store`.

    raises  NotThere: a method of which records are missing; TrptsError: a record that cannot be
            read, of any of them
    """
    how, chosen = comparison_of(profile), {}
    # all, before any verdict
    tunings = {
        method: _cells_of_rates(profile, store, how.family.get(method, method), device)
        for method in known_methods(profile, methods)
    }
    for method, (cells, means) in tunings.items():
        if means is None:
            found = store.found(cells)
            raise NotThere(
                f"{method}: {len(found)} of {len(cells)} tuning records are there: "
                "run `trpts sweep --tuning` first"
            )
        chosen[method] = (best_rate(means) if how.fair else max(means, key=means.get)), means
    return chosen


def comparison_cells(profile, store, tasks=None, methods=None, seeds=None, device=None):
    """[(experiment, configuration)] of the comparison; seeds outermost, so that what is there is a
    whole table.

    tasks  None: the compared ones, and CORE's first seed on all others
    """
    every, compared = profile["benchmark"]["tasks"], profile["benchmark"]["sweep"]["compared_tasks"]
    unknown = [task for task in tasks or () if task not in every]
    if unknown:
        raise TrptsError(
            f"task {unknown[0]!r} is not in the profile: expected some of {', '.join(every)}"
        )
    how, methods = comparison_of(profile), known_methods(profile, methods)
    seeds = how.seeds if seeds is None else seeds
    wanted = [
        (method, task, seed) for seed in seeds for task in tasks or compared for method in methods
    ]
    # the other tasks of the fair comparison are those that rates were chosen on
    if tasks is None and not how.fair:
        others = [task for task in every if task not in compared]
        wanted += [
            (method, task, seeds[0]) for task in others for method in how.core if method in methods
        ]
    rates = chosen_rates(profile, store, [*methods, HEAD] if how.fair else methods, device)
    shared = common(profile, device)
    heads = {"head_lr": rates[HEAD][0]} if how.fair else {}
    return [
        (
            tuned,
            tuned.cell(
                method,
                *how.methods[method],
                task,
                seed,
                rates[method][0],
                **shared,
                **({} if method == HEAD else heads),
            ),
        )
        for method, task, seed in wanted
    ]


def ablation_cells(profile, store, figures=None, seeds=None, device=None):
    """[(experiment, configuration)] of the ablations' figures (None: all), without duplicates."""
    unknown = [name for name in figures or () if name not in ABLATIONS]
    if unknown:
        raise TrptsError(
            f"ablation {unknown[0]!r} is unknown: expected some of {', '.join(ABLATIONS)}"
        )
    if comparison_of(profile).fair:
        raise TrptsError(
            f"the profile {profile['profile']!r} has no ablations: expected full or paper"
        )
    seeds = SEEDS if seeds is None else seeds
    variants = {
        variant: how for name in figures or ABLATIONS for variant, how in ABLATIONS[name].items()
    }
    rates = chosen_rates(profile, store, [rate_of(variant) for variant in variants], device)
    shared = common(profile, device)
    return [
        (tuned, tuned.cell(variant, *how, task, seed, rates[rate_of(variant)][0], **shared))
        for seed in seeds
        for task in profile["benchmark"]["sweep"]["tuning_tasks"]
        for variant, how in variants.items()
    ]


def rate_of(variant):
    """The method whose chosen rate an ablation's variant uses: its own if compared, or TR-PTS'."""
    return variant if variant in METHODS else RATE_OF.get(variant, OURS)


def known_methods(profile, methods=None):
    """The methods asked for, all of the profile's comparison if None; an unknown one is refused."""
    known = comparison_of(profile).methods
    unknown = [method for method in methods or () if method not in known]
    if unknown:
        raise TrptsError(f"method {unknown[0]!r} is unknown: expected some of {'; '.join(known)}")
    return list(methods or known)
