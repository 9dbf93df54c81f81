"""Runs beside the comparison: claims that the papers' tables do not cover, and why scores differ.

concentration  each score × tuning tasks × seeds: how many different inputs it selects (no training)
remedy         TR-PTS with two scores made after the others' results were known: post hoc
causes         TR-PTS with Fisher's score and with a drawn one, under other conditions: is the loss
               to chance theirs?
many_tasks     the tuning tasks on one backbone, a delta each
continual      two tasks in the same weights, one after another, in four ways
drift          a task whose images change after it was tuned
text           a transformer that reads letters; four methods, at each learning rate
subtle         TransPrune, where the answer stays: how far the distribution behind it moves

All are at the rates chosen for the comparison, but where one of the causes is a lower rate; text's
best is found by its own validation accuracy.
"""

from trpts.errors import TrptsError
from trpts_lab import grid
from trpts_lab.compared import CAUSES, FULL, HEAD, OURS, PLAIN, SEEDS, SMALL_STEPS, scored_by
from trpts_lab.experiments import (
    concentration,
    continual,
    drift,
    many_tasks,
    remedy,
    subtle,
    text,
    tuned,
)
from trpts_lab.tasks import READING

SELECTION = {"method": "trpts", "per_neuron": PLAIN["per_neuron"]}
# way: the method whose learning rate it uses
OF_WAY = {"free": OURS, "protected": OURS, "full": FULL, "head": HEAD}
DRIFT = 1.0  # as far as it goes
# texts on which the transformer learns to read
UPSTREAM = {"n_upstream": 12000, "upstream_epochs": 8}
LVLM = "data/weights/lvlm_tiny.safetensors"
RUN, MODEL, TRAINING = ("profile", "device"), ("backbone", "weights"), ("epochs", "batch_size")


def _concentration(tasks, rates, grids):
    names = (*concentration.SCORES, *concentration.REMEDIES)
    return [
        SELECTION | {"variant": score, "task": task, "n_scored": 500}
        for score in names
        for task in tasks
    ]


def _remedy(tasks, rates, grids):
    shared = {"method": "trpts", "options": PLAIN, "lr": rates[OURS]}
    return [
        shared | {"variant": score, "score": score, "task": task}
        for score in concentration.REMEDIES
        for task in tasks
    ]


def _causes(tasks, rates, grids):
    def run(options=None, lr_divided_by=1, **others):
        return {
            "method": "trpts",
            "options": PLAIN | (options or {}),
            "lr": rates[OURS] / lr_divided_by,
            **others,
        }

    return [
        (own := run(**changed))
        | {"options": own["options"] | score, "variant": variant, "task": task}
        for name, changed in CAUSES.items()
        for variant, score in ((name, {}), (f"{scored_by('random')}, {name}", {"score": "random"}))
        for task in tasks
    ]


def _many_tasks(tasks, rates, grids):
    return [
        SELECTION
        | {
            "variant": "a delta each",
            "task": " and ".join(tasks),
            "tasks": tasks,
            "lr": rates[OURS],
        }
    ]


def _continual(tasks, rates, grids):
    if len(tasks) % 2:
        raise TrptsError(
            "continual takes the tuning tasks two by two: expected an even number, "
            f"found {len(tasks)}"
        )
    pairs = zip(tasks[::2], tasks[1::2], strict=True)
    return [
        SELECTION
        | {
            "method": continual.WAYS[way],
            "variant": way,
            "way": way,
            "task": f"{first} then {second}",
            "tasks": [first, second],
            "lr": rates[whose],
        }
        for first, second in pairs
        for way, whose in OF_WAY.items()
    ]


def _drift(tasks, rates, grids):
    shared = SELECTION | {"variant": "drift", "drift": DRIFT, "lr": rates[OURS]}
    return [shared | {"task": task} for task in tasks]


def _text(tasks, rates, grids):
    return [
        UPSTREAM | {"method": method, "variant": variant, "task": "new languages", "lr": lr}
        for variant, (method, _) in text.METHODS.items()
        for lr in grids["all" if method in SMALL_STEPS else "few"]
    ]


def _subtle(tasks, rates, grids):
    shared = {"method": "transprune", "task": "scenes", "weights": LVLM, "n_questions": 100}
    return [shared | {"variant": variant} for variant in ("transprune, High", "random, High")]


FURTHER = {  # name: (experiment, its configurations, what of the profile it uses)
    "concentration": (concentration, _concentration, RUN + MODEL),
    "remedy": (remedy, _remedy, RUN + MODEL + TRAINING),
    "causes": (tuned, _causes, RUN + MODEL + TRAINING),
    "many_tasks": (many_tasks, _many_tasks, RUN + MODEL + TRAINING),
    "continual": (continual, _continual, RUN + MODEL + TRAINING),
    "drift": (drift, _drift, RUN + MODEL + TRAINING),
    "text": (text, _text, RUN + TRAINING),
    "subtle": (subtle, _subtle, RUN),
}


# Those of them that a fair comparison has: on its tuning tasks, whose images judge nothing.
OF_FAIR = ("concentration",)


def further_cells(profile, store, names=None, seeds=None, device=None):
    """[(experiment, configuration)] of what FURTHER names, all if None; seeds outermost."""
    unknown = [name for name in names or () if name not in FURTHER]
    if unknown:
        raise TrptsError(
            f"experiment {unknown[0]!r} is unknown: expected some of {', '.join(FURTHER)}"
        )
    known = OF_FAIR if grid.comparison_of(profile).fair else FURTHER
    if none := [name for name in names or () if name not in known]:
        raise TrptsError(
            f"--further {none[0]}: the profile {profile['profile']!r} has {', '.join(known)} alone"
        )
    seeds = SEEDS if seeds is None else seeds
    shared, swept = grid.common(profile, device), profile["benchmark"]["sweep"]
    # what trains nothing needs no rate
    wanted = [] if known is OF_FAIR else [OURS, FULL, HEAD]
    found = grid.chosen_rates(profile, store, wanted, device) if wanted else {}
    reading = {name: shared[name] for name in READING if name in shared}
    rates, cells = {method: rate for method, (rate, _) in found.items()}, []
    for seed in seeds:
        for experiment, configs, uses in (FURTHER[name] for name in names or known):
            used = {name: shared[name] for name in uses} | reading | {"seed": seed}
            for own in configs(swept["tuning_tasks"], rates, swept["rates"]):
                longer = (
                    {"epochs": own.pop("epochs_times") * used["epochs"]}
                    if "epochs_times" in own
                    else {}
                )
                # other weights fit only their own
                if own.get("backbone", shared["backbone"]) == shared["backbone"]:
                    cells.append((experiment, used | own | longer))
    return cells
