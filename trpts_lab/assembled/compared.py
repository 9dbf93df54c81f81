"""What is asked of the assembled model, in which order: first where the image is read, then all
schedules of `trpts_lab.assembled.schedules`.

    for experiment, config in cells(project, store): …

Both conditions, two seeds of training, five draws of compositions and questions. A kind of question
is used in a condition where both its models reach BARS on held-out questions.
"""

from statistics import fmean

from trpts.errors import TrptsError
from trpts.texts import read_json
from trpts_lab.assembled.schedules import horizon, knee, variants
from trpts_lab.assembled.train import CONDITIONS
from trpts_lab.experiments import assembled, depth

TRAINED = (0, 1)  # seeds of training
DRAWS = range(5)  # of compositions and questions
N_QUESTIONS = 24  # of each kind in a draw
# Held-out accuracy from which a kind of question is used
BARS = {
    "exist": 0.9,
    "what": 0.9,
    "colour": 0.9,
    "where": 0.9,
    "count": 0.75,
    "relation": 0.75,
    "digit": 0.75,
}


def weights_of(condition, seed):
    """Path of a condition's weights in the checkout."""
    return f"data/weights/assembled_{condition}_{seed}.safetensors"


def kinds_of(project, condition):
    """The kinds of question that are used in a condition, by the cards of its weights.

    raises  TrptsError: a card is missing
    """
    reached = []
    for seed in TRAINED:
        path = (project.root / weights_of(condition, seed)).with_suffix(".json")
        try:
            accuracy = read_json(path)["held_out_accuracy_half_precision"]
        except FileNotFoundError:
            raise TrptsError(
                f"{path} is missing: run `trpts assemble --condition {condition} --seed {seed}`"
            ) from None
        reached.append({kind for kind, bar in BARS.items() if accuracy[kind] >= bar})
    return [kind for kind in BARS if all(kind in some for some in reached)]


def cells(project, store, device="cpu"):
    """[(experiment, configuration)] of what can be asked so far: the schedules of a condition come
    once its horizon is known.
    """
    found = []
    for condition in CONDITIONS:
        first = horizon_cells(project, condition, device)
        found += first + depth_cells(project, condition, device)
        if len(store.found(first)) == len(first):
            found += schedule_cells(project, store, condition, device)
    return found


def horizon_cells(project, condition, device="cpu"):
    """Of the validation split, one draw, both seeds of training."""
    return [
        _cell(project, condition, seed, variant, plan, 0, device, split="val")
        for seed in TRAINED
        for variant, plan in horizon().items()
    ]


def depth_cells(project, condition, device="cpu"):
    """The model layer by layer, unpruned; as many draws as models."""
    common = {"kinds": kinds_of(project, condition), "n_questions": N_QUESTIONS, "device": device}
    return [
        (depth, depth.cell(draw, weights=weights_of(condition, seed), **common))
        for draw in DRAWS[: len(TRAINED)]
        for seed in TRAINED
    ]


def schedule_cells(project, store, condition, device="cpu"):
    """All schedules of a condition; draws outermost."""
    plans = variants(*knee_of(project, store, condition, device))
    return [
        _cell(project, condition, seed, variant, plan, draw, device)
        for draw in DRAWS
        for seed in TRAINED
        for variant, plan in plans.items()
    ]


def knee_of(project, store, condition, device="cpu"):
    """(k10, k90) of a condition: see `schedules.knee`; accuracies are means over both models."""
    by_variant = {}
    for record in store.found(horizon_cells(project, condition, device)):
        by_variant.setdefault(record["config"]["variant"], []).append(
            record["metrics"]["mean_accuracy"]
        )
    return knee({variant: fmean(found) for variant, found in by_variant.items()})


def _cell(project, condition, seed, variant, plan, draw, device, **more):
    return assembled, assembled.cell(
        variant,
        plan,
        draw,
        weights=weights_of(condition, seed),
        kinds=kinds_of(project, condition),
        n_questions=N_QUESTIONS,
        device=device,
        **more,
    )
