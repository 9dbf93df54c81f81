"""What chapter 05 shows: a tiny vision-language model whose image tokens are pruned.

`mean` is everywhere the table of means over seeds, a row for each variant of
`trpts_lab.experiments.pruning`.
"""

import textwrap

import numpy as np

from trpts_lab.book.draw import heat_map, kept_rows, legend_right
from trpts_lab.book.figures import show
from trpts_lab.book.interactive import token_slider
from trpts_lab.book.tables_pruning import CRITERIA
from trpts_lab.lvlm.questions import KINDS
from trpts_lab.lvlm.scenes import N_TOKENS, SIDE
from trpts_lab.lvlm.schedules import BUDGETS
from trpts_lab.stats import share_interval


def answered_scenes(examples, answers):
    """Scenes with their question, the model's answer, and the right one where it differs.

    examples  [(scene, question)]
    """

    def draw(figure):
        panels = figure.subplots(2, 3).flat
        for axes, (scene, q), words in zip(panels, examples, answers, strict=True):
            wrong = "" if words == q.answer else f" (right: {q.answer})"
            asked = textwrap.fill(q.words.replace(" ?", "?"), 28)
            axes.imshow(scene.image)
            axes.set_title(f"{asked}\n{words}{wrong}", fontsize=8)
            axes.axis("off")

    said = "; ".join(f"{q.words} {words}" for (_, q), words in zip(examples, answers, strict=True))
    show(
        draw,
        size=(7.0, 5.2),
        alt="Six drawn scenes of coloured shapes and black-and-white clutter, with a question and "
        f"the model's answer each: {said}.",
    )


def accuracy_by_depth(horizon, grey, stages):
    """Accuracy against the layer behind which the image leaves, a curve for each kind of question.

    horizon  a row for each layer, a column for each kind
    grey     the accuracies with a grey image
    stages   layers behind which the schedule prunes
    """

    def draw(figure):
        axes = figure.subplots()
        for nth, kind in enumerate(KINDS):
            axes.plot(horizon.index, 100 * horizon[kind], "-o", ms=4, color=f"C{nth}", label=kind)
            axes.plot(0, 100 * grey[kind], "_", ms=12, mew=2, color=f"C{nth}")
        for p in stages:
            axes.axvline(p, color="gray", lw=1, ls=":")
        axes.set(
            xlabel="image tokens leave behind layer", ylabel="right answers (%)", ylim=(0, 102)
        )
        axes.set_xticks([0, *horizon.index], ["grey", *horizon.index[:-1], "never"])
        legend_right(figure)

    words = "; ".join(f"{kind} {100 * horizon.loc[stages[-1], kind]:.0f} %" for kind in KINDS)
    show(
        draw,
        size=(6.8, 3.2),
        alt="Curves of accuracy against the layer behind which the image leaves, one per kind of "
        f"question. Behind layer {stages[-1]}, the last stage: {words}.",
    )


def accuracy_against_cost(mean, n_asked):
    """Accuracy against multiply-accumulates, a curve over budgets for each criterion.

    n_asked  questions that a mean accuracy is taken over
    """

    def draw(figure):
        axes = figure.subplots()
        for nth, (c, label) in enumerate(CRITERIA.items()):
            rows = mean.loc[[f"{c}, {budget}" for budget in BUDGETS]]
            bounds = np.array([share_interval(a, n_asked) for a in rows["mean_accuracy"]]).T
            errors = np.clip(np.abs(bounds - rows["mean_accuracy"].to_numpy()), 0, None)
            axes.errorbar(
                100 * rows["macs_ratio_all"],
                100 * rows["mean_accuracy"],
                yerr=100 * errors,
                capsize=2,
                ms=5,
                marker="o^vsDPX*d"[nth],
                ls=("-", "--")[nth // 6],
                color=f"C{nth % 6}",
                label=label,
            )
        axes.axhline(100 * unpruned, color="gray", lw=1, ls=":")
        axes.set(
            xlabel="multiply-accumulates, all counted (% of unpruned)", ylabel="right answers (%)"
        )
        legend_right(figure)

    unpruned = mean.loc["unpruned", "mean_accuracy"]
    high = {label: mean.loc[f"{c}, High", "mean_accuracy"] for c, label in CRITERIA.items()}
    words = ", ".join(f"{label} {100 * accuracy:.0f} %" for label, accuracy in high.items())
    show(
        draw,
        size=(7.2, 4.2),
        alt="Accuracy against cost for nine criteria at three budgets. At High: "
        f"{words}; unpruned {100 * unpruned:.0f} %.",
    )


def recall_by_kind(mean):
    """Which part of the queried objects' tokens each criterion keeps, by kind of question."""
    kinds = [kind for kind in KINDS if f"recall[{kind}]" in mean]
    recall = mean.loc[[f"{c}, High" for c in CRITERIA], [f"recall[{kind}]" for kind in kinds]]
    names = list(CRITERIA.values())

    def draw(figure):
        look = {"label": "recall (%)", "low": 0, "top": 100, "fontsize": 9}
        heat_map(figure, 100 * recall, names, kinds, "{:.0f}", **look)

    average = zip(names, recall.mean(axis=1), strict=True)
    words = ", ".join(f"{label} {100 * x:.0f} %" for label, x in average)
    show(
        draw,
        size=(6.4, 3.8),
        alt=f"Heat map of recall, nine criteria by kind of question. Means: {words}.",
    )


def left_of_a_scene(scene, question, kept, stages):
    """What is left of a scene behind each stage, a row for each criterion.

    kept  {criterion: [bool [N_TOKENS] for each stage]}
    """
    rows = {c: (scene.image, [m.reshape(SIDE, SIDE) for m in some]) for c, some in kept.items()}
    hits = {c: (some[-1] & question.tokens).sum() for c, some in kept.items()}
    show(
        lambda figure: kept_rows(figure, rows, [f"behind layer {p}" for p in stages]),
        size=(6.4, 7.0),
        alt=f"The scene of the question '{question.words}' and what is left of it behind each of "
        f"three stages, by criterion. Of the object's {question.tokens.sum()} tokens the last "
        f"stage keeps: {', '.join(f'{c} {n}' for c, n in hits.items())}.",
    )


def stage_slider(scene, question, kept, stages):
    """A slider over the stages, a picture for each of three criteria: left, middle, right."""
    masks, words = [[np.ones(N_TOKENS, bool)] * len(kept)], ["all tokens"]
    for stage, p in enumerate(stages):
        some = {c: of_criterion[stage] for c, of_criterion in kept.items()}
        hits = ", ".join(f"{c} keeps {(m & question.tokens).sum()}" for c, m in some.items())
        masks.append(list(some.values()))
        words.append(
            f"behind layer {p}: {masks[-1][0].sum()} of {N_TOKENS} tokens; of the object's "
            f"{question.tokens.sum()}, {hits}"
        )
    places = zip(("Left", "middle", "right"), kept, strict=True)
    named = "; ".join(f"{place}: {c}" for place, c in places)
    return token_slider(
        [scene.image] * len(kept),
        masks,
        words,
        title=f"{question.words.removesuffix(' ?')}? {named}",
        axis="stage",
        start=len(stages),
        pixels=180,
        alt="The scene with its dropped tokens covered,",
    )


def maps_of_places(places, unevenness):
    """How often each place of the image is kept, a map for each criterion.

    places      {criterion: [N_TOKENS] shares}
    unevenness  {criterion: standard deviation over mean of these}
    """

    def draw(figure):
        grid = figure.subplots(1, len(places))
        top = 100 * max(p.max() for p in places.values())
        for axes, (c, p) in zip(grid, places.items(), strict=True):
            square = 100 * p.reshape(SIDE, SIDE)
            image = axes.imshow(square, cmap="cividis", vmin=0, vmax=top)
            axes.set_title(CRITERIA[c], fontsize=9)
            axes.axis("off")
        figure.colorbar(image, ax=list(grid), label="kept (%)", shrink=0.8)

    words = ", ".join(f"{CRITERIA[c]} {x:.2f}" for c, x in unevenness.items())
    show(
        draw,
        size=(7.2, 2.4),
        alt="Maps of how often each of the image's tokens is kept, four criteria. Unevenness, "
        f"standard deviation over mean: {words}.",
    )
