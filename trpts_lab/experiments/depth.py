"""The assembled model layer by layer, unpruned: where attention sinks, how long the states are, and
what the transition of image tokens says.

Everything is measured in one forward pass of each question. An AUC is the chance that a token which
the question asks for has the higher score than one that it does not: 0.5 is none at all.
"""

import numpy as np
import torch
from scipy.stats import rankdata

from trpts.transition import transition_variation
from trpts_lab.assembled.model import prompt
from trpts_lab.assembled.questions import questions_of
from trpts_lab.experiments import assembled

VERSION = 1
AT_ONCE = 12  # questions
inputs = assembled.inputs


def cell(seed, **common):
    """The configuration of one run; `common` as of `assembled.cell`."""
    return assembled.cell("layer by layer", None, seed, **common)


def run(config):
    """Metrics; each a number for each layer, from the first.

    norm_first, norm_image, norm_text  length of the states behind a layer: of the first token, of
        image tokens, of the text behind them
    on_first, on_image  share of the attention of the text behind the image that the first token
        and the image take, mean over heads
    ttv, ttv_spread     of image tokens (eq. 3, this layer alone): mean, and standard deviation
        within a question
    ttv_asked, iga_asked, norm_asked  AUC of the tokens that are asked for, by TTV, by the attention
        of the text, and by the length of what both modules add
    ttv_things          AUC of the tokens of any thing against the ground, by TTV
    ttv_place, iga_place  rank correlation with the token's number in the image
    ttv_norm            rank correlation of TTV with the length of what both modules add
    """
    model = assembled.model_of(config)
    model.set_attn_implementation("eager")  # which gives its weights
    rows = []
    for kind in config["kinds"]:
        pairs = questions_of(config["split"], kind, config["n_questions"], config["seed"])
        for start in range(0, len(pairs), AT_ONCE):
            rows += looked(model, pairs[start : start + AT_ONCE])
    stacked = {name: np.array([row[name] for row in rows if name in row]) for name in rows[0]}
    return {name: np.nanmean(values, 0).tolist() for name, values in stacked.items()}


@torch.no_grad()
def looked(model, pairs):
    """A dict of the metrics of `run` for each of the pairs, lists over layers; NaN: none to say."""
    inputs = prompt([shown.image for shown, _ in pairs], [question.words for _, question in pairs])
    inputs = {name: tensor.to(model.device) for name, tensor in inputs.items()}
    seen, layers = [], model.model.language_model.layers
    # attention, FFN and the layer itself: the model's own last state is behind a norm
    handles = [
        module.register_forward_hook(_watch(seen), with_kwargs=True)
        for layer in layers
        for module in (layer.self_attn, layer.mlp, layer)
    ]
    try:
        output = model(**inputs, output_attentions=True, use_cache=False)
    finally:
        for handle in handles:
            handle.remove()
    image = inputs["input_ids"] == model.config.image_token_id  # [B, T]
    found = [{} for _ in pairs]
    for number in range(len(layers)):
        weights = output.attentions[number].mean(1)  # [B, T, T]
        *modules, (_, states) = seen[3 * number : 3 * number + 3]  # (T_in, T_out) of each
        ttv = sum(transition_variation(given, made, domain=image) for given, made in modules)
        added = sum(made.float().norm(dim=-1) for _, made in modules)  # [B, T]
        for row, (shown, question) in enumerate(pairs):
            places = image[row].nonzero().flatten()
            first = int(inputs["attention_mask"][row].argmax())
            text = slice(int(places[-1]) + 1, None)
            attended = weights[row, text].mean(0)  # [T]
            scores = {
                "ttv": ttv[row, places].cpu().numpy(),
                "iga": attended[places].cpu().numpy(),
                "norm": added[row, places].cpu().numpy(),
            }
            lengths = states[row].float().norm(dim=-1)
            asked, things = question.tokens, shown.tokens.any(0)
            numbers = np.arange(len(places))
            values = {
                "norm_first": float(lengths[first]),
                "norm_image": float(lengths[places].mean()),
                "norm_text": float(lengths[text].mean()),
                "on_first": float(attended[first]),
                "on_image": float(attended[places].sum()),
                "ttv": float(scores["ttv"].mean()),
                "ttv_spread": float(scores["ttv"].std()),
                **{f"{name}_asked": auc(values, asked) for name, values in scores.items()},
                "ttv_things": auc(scores["ttv"], things),
                "ttv_place": rank_correlation(scores["ttv"], numbers),
                "iga_place": rank_correlation(scores["iga"], numbers),
                "ttv_norm": rank_correlation(scores["ttv"], scores["norm"]),
            }
            for name, value in values.items():
                found[row].setdefault(name, []).append(value)
    return found


def _watch(seen):
    """A hook that notes what goes into a module and what comes out of it."""

    def note(module, args, kwargs, output):
        given = kwargs["hidden_states"] if "hidden_states" in kwargs else args[0]
        seen.append((given, output[0] if isinstance(output, tuple) else output))

    return note


def auc(scores, positive):
    """The chance that a positive has the higher score than another, ties half; NaN without both."""
    n = int(positive.sum())
    if n in (0, len(scores)):
        return float("nan")
    ranks = rankdata(scores)[positive].sum() - n * (n + 1) / 2
    return float(ranks / (n * (len(scores) - n)))


def rank_correlation(a, b):
    """Spearman's; 0 where one of them is all the same."""
    a, b = rankdata(a), rankdata(b)
    spread = a.std() * b.std()
    return float(((a - a.mean()) * (b - b.mean())).mean() / spread) if spread else 0.0
