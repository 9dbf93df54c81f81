"""What pruning took away, for whoever looks at it afterwards."""

from dataclasses import dataclass, field

import torch


@dataclass
class Trace:
    """What the last prompt lost, by stage (its layer, counted from 1) and row of the batch; holds
    no graph.

    n_image   [B]: image tokens of each row
    n_prompt  [B]: all tokens of each row, without padding
    kept      {stage: B × int64 [kept]}: numbers among the row's image tokens, ascending
    scores    {stage: B × float32 [n_image]}: NaN for tokens that were dropped before; none where
              all stay anyway
    parts     {stage: {name: B × float32 [n_image]}}: what a criterion adds up, weighted
    n_tokens  {stage: int}: length of the sequence behind the stage, text and filling included
    """

    n_image: list[int] = field(default_factory=list)
    n_prompt: list[int] = field(default_factory=list)
    kept: dict[int, list[torch.Tensor]] = field(default_factory=dict)
    scores: dict[int, list[torch.Tensor]] = field(default_factory=dict)
    parts: dict[int, dict[str, list[torch.Tensor]]] = field(default_factory=dict)
    n_tokens: dict[int, int] = field(default_factory=dict)

    def _start(self, prompt):
        self.n_image, self.n_prompt = prompt.n_image.tolist(), prompt.valid.sum(1).tolist()
        self.kept, self.scores, self.parts, self.n_tokens = {}, {}, {}, {}

    def _record(self, stage, prompt, scores=None, index=None, parts=None):
        """Behind `stage`, `prompt` is left of what had `scores` [B, N] and `index` [B, N]."""
        self.kept[stage] = [row[row >= 0].clone() for row in prompt.index]
        self.n_tokens[stage] = prompt.index.shape[1]

        def by_number(values):
            full = [values.new_full((n,), torch.nan) for n in self.n_image]
            return [
                f.scatter(0, i[i >= 0], v[i >= 0])
                for f, i, v in zip(full, index, values, strict=True)
            ]

        if scores is not None:
            self.scores[stage] = by_number(scores)
            self.parts[stage] = {name: by_number(values) for name, values in (parts or {}).items()}

    def scale(self, stage: int, row: int = 0) -> dict[str, tuple[float, float]]:
        """{part: (mean, standard deviation)} over the image tokens that a stage ranked. The part
        with the larger spread decides the order of their sum.
        """
        return {
            name: (float(x.mean()), float(x.std(correction=0)))
            for name, rows in self.parts.get(stage, {}).items()
            for x in [rows[row][~rows[row].isnan()]]
            if len(x)
        }
