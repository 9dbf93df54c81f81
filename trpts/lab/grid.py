"""What is swept: the choice of learning rates, the comparison of methods, the ablations of TR-PTS.

tuning      each family of methods × the profile's learning rates × tuning tasks, seed 0: what decides is the mean
            accuracy on their validation images, and the choice is computed from these records whenever it is needed
comparison  each method × the profile's compared tasks × seeds, at the rate chosen for its family; and CORE, the
            methods that matter most, on every task, first seed
ablations   each switch of TR-PTS (`trpts.lab.ablations`) × tuning tasks × seeds, at the rate chosen for TR-PTS; what
            is a method of the comparison, or trains the head alone, at the rate chosen for that

A run that two of these ask for has one record. Tasks, rates, epochs and batch size are the profile's.
"""

from statistics import fmean

from trpts.lab.ablations import ABLATIONS, RATE_OF
from trpts.lab.errors import TrptsError
from trpts.lab.experiments import tuned
from trpts.lab.provenance import pick_device
from trpts.lab.store import NotThere

# name -> (method, options). Selection: two connections per neuron (C). Tokens: about a third of the FLOPs saved.
METHODS = {
    "linear": ("linear", {}),
    "full": ("full", {}),
    "TR-PTS without tokens": ("trpts", {"per_neuron": 2.0, "keep": 1}),
    "TR-PTS": ("trpts", {"per_neuron": 2.0, "keep": 0.5}),
    "LoRA, r = 2": ("lora", {"r": 2}),
    "GPS": ("gps", {"per_neuron": 2}),
    "SSF": ("ssf", {}),
    "BitFit": ("bitfit", {}),
    "adapter": ("adapter", {"size": 8}),
    "LoRA, r = 1": ("lora", {"r": 1}),
    "LoRA, r = 8": ("lora", {"r": 8}),
    "VPT-deep": ("vpt-deep", {"n_prompts": 10}),
    "VPT-shallow": ("vpt-shallow", {"n_prompts": 10}),
    "SHiRA": ("shira", {"r": 1}),
    "FPS": ("fps", {"per_neuron": 2}),
    "random": ("random", {"per_neuron": 2}),
    "TR-PTS with EViT": ("evit", {"per_neuron": 2.0, "keep": 0.7}),
    "TR-PTS with ToMe": ("tome", {"per_neuron": 2.0, "r": 5}),
}
# Whose rate a method uses that only loses tokens on top of it; every other method has its own.
FAMILY = dict.fromkeys(("TR-PTS", "TR-PTS with EViT", "TR-PTS with ToMe"), "TR-PTS without tokens")
CORE = ("linear", "full", "TR-PTS without tokens", "TR-PTS", "LoRA, r = 2", "GPS")
SMALL_STEPS = ("linear", "full")  # a probed head wants small steps, and so do all parameters together
OF = "TR-PTS without tokens"  # whose rate the ablations use
SEEDS = (0, 1, 2)


def common(profile, device=None):
    """What all cells of a profile share; `device` None: this machine's."""
    benchmark = profile["benchmark"]
    return {
        "profile": profile["profile"],
        "device": device or pick_device(),
        "backbone": benchmark["backbone"],
        "weights": benchmark["weights"],
        **{name: benchmark["sweep"][name] for name in ("epochs", "batch_size")},
    }


def tuning_cells(profile, methods=None, device=None):
    """[(experiment, configuration)] of the choice of learning rates, method by method."""
    shared, swept = common(profile, device), profile["benchmark"]["sweep"]
    families = dict.fromkeys(FAMILY.get(method, method) for method in known_methods(methods))
    return [(tuned, tuned.cell(family, *METHODS[family], task, 0, lr, **shared))
            for family in families for task in swept["tuning_tasks"]
            for lr in swept["rates"]["all" if family in SMALL_STEPS else "few"]]  # fmt: skip


def chosen_rates(profile, store, methods=None, device=None):
    """{method: (learning rate, {rate: mean validation accuracy})} from the records of the tuning in `store`.

    raises  NotThere: a method of which records are missing; TrptsError: a record that cannot be read, of any of them
    """
    chosen = {}
    cells_of = {method: tuning_cells(profile, [method], device) for method in known_methods(methods)}
    found_of = {method: store.found(cells) for method, cells in cells_of.items()}  # all, before any verdict
    for method, cells in cells_of.items():
        found = found_of[method]
        if len(found) < len(cells):
            raise NotThere(f"{method}: {len(found)} of {len(cells)} tuning records are there: run `trpts sweep "
                           "--tuning` first")  # fmt: skip
        accuracy = {}
        for record in found:
            accuracy.setdefault(record["config"]["lr"], []).append(record["metrics"]["val_accuracy"])
        means = {lr: fmean(values) for lr, values in accuracy.items()}
        chosen[method] = max(means, key=means.get), means
    return chosen


def comparison_cells(profile, store, tasks=None, methods=None, seeds=SEEDS, device=None):
    """[(experiment, configuration)] of the comparison; seeds outermost, so that what is there is a whole table.

    tasks  None: the compared ones, and CORE's first seed on all others
    """
    every, compared = profile["benchmark"]["tasks"], profile["benchmark"]["sweep"]["compared_tasks"]
    unknown = [task for task in tasks or () if task not in every]
    if unknown:
        raise TrptsError(f"task {unknown[0]!r} is not in the profile: expected some of {', '.join(every)}")
    methods = known_methods(methods)
    wanted = [(method, task, seed) for seed in seeds for task in tasks or compared for method in methods]
    if tasks is None:
        others = [task for task in every if task not in compared]
        wanted += [(method, task, seeds[0]) for task in others for method in CORE if method in methods]
    rates, shared = chosen_rates(profile, store, methods, device), common(profile, device)
    return [(tuned, tuned.cell(method, *METHODS[method], task, seed, rates[method][0], **shared))
            for method, task, seed in wanted]  # fmt: skip


def ablation_cells(profile, store, figures=None, seeds=SEEDS, device=None):
    """[(experiment, configuration)] of the ablations' figures, all if None; what two of them share comes once."""
    unknown = [name for name in figures or () if name not in ABLATIONS]
    if unknown:
        raise TrptsError(f"ablation {unknown[0]!r} is unknown: expected some of {', '.join(ABLATIONS)}")
    variants = {variant: how for name in figures or ABLATIONS for variant, how in ABLATIONS[name].items()}
    rates = chosen_rates(profile, store, [rate_of(variant) for variant in variants], device)
    shared = common(profile, device)
    return [(tuned, tuned.cell(variant, *how, task, seed, rates[rate_of(variant)][0], **shared))
            for seed in seeds for task in profile["benchmark"]["sweep"]["tuning_tasks"]
            for variant, how in variants.items()]  # fmt: skip


def rate_of(variant):
    """The method at whose chosen rate an ablation's variant runs: its own where it is compared, else TR-PTS'."""
    return variant if variant in METHODS else RATE_OF.get(variant, OF)


def known_methods(methods=None):
    """The methods asked for, all if None; an unknown one is refused."""
    unknown = [method for method in methods or () if method not in METHODS]
    if unknown:
        raise TrptsError(f"method {unknown[0]!r} is unknown: expected some of {'; '.join(METHODS)}")
    return list(methods or METHODS)
