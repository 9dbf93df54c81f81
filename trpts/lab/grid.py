"""The grid of the comparison: methods × tasks × seeds, each method at the learning rate that validation images chose.

tuning      each method × LEARNING_RATES × four twins, one of each group, seed 0: what decides is the mean accuracy
            on their validation images, and the choice is computed from these records whenever it is needed
comparison  each method × tasks × seeds, at the rates chosen
"""

from statistics import fmean

from trpts.lab.errors import TrptsError
from trpts.lab.experiments import compared
from trpts.lab.provenance import pick_device
from trpts.lab.records import read_records

# One of each group of VTAB and of the fine-grained ones; the same five rates for every method.
TUNING_TASKS = ("flowers102_twin", "camelyon_twin", "dsprites_loc_twin", "cub_twin")
LEARNING_RATES = (3e-4, 1e-3, 3e-3, 1e-2, 3e-2)
EPOCHS, BATCH_SIZE = 10, 32


def common(profile):
    """What all cells of a profile share."""
    benchmark = profile["benchmark"]
    return {"profile": profile["profile"], "device": pick_device(), "backbone": benchmark["backbone"],
            "weights": benchmark["weights"], "epochs": EPOCHS, "batch_size": BATCH_SIZE}  # fmt: skip


def tuning_cells(profile, methods=None):
    """[(experiment, configuration)] of the choice of learning rates."""
    shared = common(profile)
    return [(compared, compared.cell(method, task, 0, lr, **shared, purpose="tuning"))
            for lr in LEARNING_RATES for task in TUNING_TASKS for method in known_methods(methods)]  # fmt: skip


def chosen_rates(folder, methods=None):
    """{method: (learning rate, {rate: mean validation accuracy})} from the records of the tuning in `folder`.

    raises  TrptsError: a method of which records are missing
    """
    found = {}
    for record in read_records(folder, "compared"):
        config = record["config"]
        if config.get("purpose") == "tuning":
            of = found.setdefault(config["variant"], {}).setdefault(config["lr"], {})
            of[config["task"]] = record["metrics"]["val_accuracy"]
    chosen = {}
    for method in known_methods(methods):
        rates = found.get(method, {})
        there = sum(len(rates.get(lr, {})) for lr in LEARNING_RATES)
        if there < len(LEARNING_RATES) * len(TUNING_TASKS):
            raise TrptsError(f"{method}: {there} of {len(LEARNING_RATES) * len(TUNING_TASKS)} tuning records are in "
                             f"{folder}: run `trpts sweep --tuning` first")  # fmt: skip
        means = {lr: fmean(rates[lr].values()) for lr in LEARNING_RATES}
        chosen[method] = max(means, key=means.get), means
    return chosen


def comparison_cells(profile, folder, tasks=None, methods=None, seeds=(0, 1, 2)):
    """[(experiment, configuration)] of the comparison; seeds outermost, so that what is there is a whole table."""
    every = profile["benchmark"]["tasks"]
    unknown = [task for task in tasks or () if task not in every]
    if unknown:
        raise TrptsError(f"task {unknown[0]!r} is not in the profile: expected some of {', '.join(every)}")
    rates, shared = chosen_rates(folder, methods), common(profile)
    return [(compared, compared.cell(method, task, seed, rates[method][0], **shared, purpose="comparison"))
            for seed in seeds for task in tasks or every for method in known_methods(methods)]  # fmt: skip


def known_methods(methods=None):
    """The methods asked for, all if None; an unknown one is refused."""
    unknown = [method for method in methods or () if method not in compared.VARIANTS]
    if unknown:
        raise TrptsError(f"method {unknown[0]!r} is unknown: expected some of {'; '.join(compared.VARIANTS)}")
    return list(methods or compared.VARIANTS)
