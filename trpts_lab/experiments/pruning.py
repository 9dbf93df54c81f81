"""The tiny vision-language model under pruning: which questions it still answers, which tokens
stayed, what it costs.

Every question is about a scene that was drawn by a program, so that the tokens which decide it are
known. The model is trained once; the seed draws other scenes and questions, of the test split, and
what is random in a criterion, for each question anew.
"""

import json
from dataclasses import asdict, replace

import numpy as np
import torch

from trpts.hashes import short_hash
from trpts.transprune.costs import macs
from trpts.transprune.plugin import pruning
from trpts.transprune.schedule import Schedule
from trpts_lab.lvlm import schedules
from trpts_lab.lvlm.answers import right_answers
from trpts_lab.lvlm.model import load_lvlm
from trpts_lab.lvlm.questions import KINDS, encode, questions_of
from trpts_lab.lvlm.scenes import N_TOKENS
from trpts_lab.lvlm.schedules import variants
from trpts_lab.tasks import weights_hash, weights_path

VERSION = 1
BATCH_SIZE = 64
# Switches of a Schedule that came later than rows, and what these had
LATER = {"frames": "all"}
# Variants whose kept tokens are drawn as a map: a hundred numbers a row, of which no other is read
MAPPED = {f"{criterion}, High" for criterion in schedules.CRITERIA}


def cell(variant, seed, **common):
    """The configuration of one run; the variant "question alone" shows a grey image."""
    schedule = None if variant == "question alone" else variants()[variant]
    # lists for tuples, as in the file
    switches = None if schedule is None else json.loads(json.dumps(asdict(schedule)))
    for name in LATER if switches else ():
        if switches[name] == LATER[name]:
            del switches[name]  # so that rows measured before there was the switch are found
    return {
        "task": "scenes",
        "method": "transprune",
        "variant": variant,
        "seed": seed,
        "schedule": switches,
        **common,
    }


def run(config):
    """Metrics; `config`: weights, n_questions (of each kind), schedule, variant, seed, device."""
    model = load_lvlm(weights_path(config)).to(config["device"])
    switches = config["schedule"]
    schedule = None if switches is None else Schedule(**switches)
    metrics = {"accuracy": {}}
    looks, text = [], []
    for kind in KINDS:
        pairs = questions_of("test", kind, config["n_questions"], config["seed"])
        right = []
        for start in range(0, len(pairs), BATCH_SIZE):
            part = pairs[start : start + BATCH_SIZE]
            if schedule is None:
                right.append(
                    right_answers(model, part, blank=config["variant"] == "question alone")
                )
                continue
            relevant = torch.from_numpy(np.stack([question.tokens for _, question in part]))
            plan = own_draws(schedule, len(part), config["seed"], KINDS.index(kind), start)
            with pruning(model, plan, relevant.to(config["device"])) as trace:
                right.append(right_answers(model, part))
            looks += [
                (kind, *pair, masks) for pair, masks in zip(part, kept_masks(trace), strict=True)
            ]
        metrics["accuracy"][kind] = float(np.concatenate(right).mean())
        text += [1 + len(encode(question.words)) for _, question in pairs]
    metrics["mean_accuracy"] = float(np.mean(list(metrics["accuracy"].values())))
    words, of = round(float(np.mean(text))), model.config.text_config
    metrics["macs_ratio"] = macs(of, N_TOKENS, schedule) / macs(of, N_TOKENS)
    costs = [
        macs(of, N_TOKENS, s, words, overhead=True, n_instruction_tokens=words - 1)
        for s in (schedule, None)
    ]
    metrics["macs_ratio_all"] = costs[0] / costs[1]
    kept = kept_metrics(looks) if looks else {}
    if config["variant"] not in MAPPED:
        kept.pop("place", None)
    return metrics | kept


def own_draws(schedule, n, seed, kind, first):
    """The schedule, with a draw of its own for each of the n questions of a kind, by its number,
    that begin at number `first`.

    The library draws by the words of the question, so that a question asked again is pruned alike:
    here, where the same words are asked of a hundred scenes, that would be one draw for all of
    them.
    """
    if schedule.score not in ("random", "oracle"):
        return schedule
    drawn = [np.random.default_rng([seed, kind, first + i]).random(N_TOKENS) for i in range(n)]
    draws = torch.from_numpy(np.stack(drawn))

    def random(c):
        return c.of_tokens(draws.to(c.index.device))

    def oracle(c):
        return random(c) + c.of_tokens(c.relevant.long())

    return replace(schedule, score=random if schedule.score == "random" else oracle)


def kept_masks(trace):
    """For each row of the trace: {stage: bool [N_TOKENS]}, the tokens that stayed."""
    return [
        {
            stage: np.isin(np.arange(N_TOKENS), kept[row].cpu().numpy())
            for stage, kept in trace.kept.items()
        }
        for row in range(len(trace.n_image))
    ]


def kept_metrics(looks):
    """Of (kind, scene, question, {stage: kept}): what stayed of what was asked about, and where it
    lay.

    recall    by kind, behind the last stage: part of the queried objects' tokens that stayed
              (questions that have any)
    by_stage  the same over all kinds, behind each stage
    share     of what stayed behind the last stage: on any object, on clutter
    place     part of the questions in which a token stayed behind the last stage, by its number
    """
    last = max(looks[0][3])
    asked = [look for look in looks if look[2].tokens.any()]

    def recall(some, stage):
        return float(
            np.mean([masks[stage][question.tokens].mean() for _, _, question, masks in some])
        )

    objects = np.mean(
        [
            masks[last][scene.thing_tokens.any(0)].sum() / masks[last].sum()
            for _, scene, _, masks in looks
        ]
    )
    clutter = np.mean(
        [
            masks[last][scene.clutter_tokens].sum() / masks[last].sum()
            for _, scene, _, masks in looks
        ]
    )
    places = np.mean([masks[last] for *_, masks in looks], axis=0)
    kinds = sorted({kind for kind, *_ in asked})
    return {
        "recall": {
            kind: recall([look for look in asked if look[0] == kind], last) for kind in kinds
        },
        "by_stage": {str(stage): recall(asked, stage) for stage in looks[0][3]},
        "share": {"objects": float(objects), "clutter": float(clutter)},
        "place": {str(n): float(p) for n, p in enumerate(places)},
    }


def inputs(config):
    """Hashes of the first questions and of the weights file."""
    some = [pair for kind in KINDS for pair in questions_of("test", kind, 20, config["seed"])]
    told = [
        (scene.image.tobytes().hex(), question.words, question.answer) for scene, question in some
    ]
    return {"data": short_hash(str(told)), "weights": weights_hash(config)}
