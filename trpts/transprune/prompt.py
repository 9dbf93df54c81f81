"""A prompt in the language model: the tokens left after each stage, their mask and positions."""

from dataclasses import dataclass, field
from typing import Any

import numpy
import torch
from transformers.cache_utils import Cache
from transformers.masking_utils import create_causal_mask

from trpts.transprune.families import Anatomy

Rope = tuple[torch.Tensor, torch.Tensor]  # cos and sin [B, N, d]


@dataclass
class Stage:
    """What layers behind a stage are given: [B, N] positions are left of L.

    valid      bool [B, N], False: filling on the left, so that rows of unlike length end alike
    mask       of the prompt, as the model's attention takes it (None: plainly causal)
    rope       position embeddings of the prompt, cos and sin [B, N, d]
    positions  int64 [B, N] or [3, B, N]: what rope was made of
    shift      int64 [B]: by how much later positions move back; 0 throughout unless they are
               numbered anew
    """

    after: int
    valid: torch.Tensor
    mask: torch.Tensor | None
    rope: Rope
    positions: torch.Tensor
    shift: torch.Tensor
    # mask and rope of the newest token, for all layers of the stage
    decoding: dict[str, Any] = field(default_factory=dict)


@dataclass
class Prompt:
    """State from a prompt's first layer to the last token generated after it; N positions are left
    just now.

    length       L, positions of the prompt
    image, valid, instruction  bool [B, N]
    index        int64 [B, N], see `criteria.Candidates`
    n_image      int64 [B], image tokens of the prompt
    ttv, norm    float32 [B, N], 0 outside the image
    """

    length: int
    image: torch.Tensor
    valid: torch.Tensor
    instruction: torch.Tensor
    index: torch.Tensor
    n_image: torch.Tensor
    ttv: torch.Tensor
    norm: torch.Tensor
    ids: list[numpy.ndarray]
    relevant: torch.Tensor | None
    cache: Cache | None = None
    positions: torch.Tensor = field(init=False)  # as rope, set in front of the first layer
    rope: Rope = field(init=False)
    attention: torch.Tensor | None = None
    stages: list[Stage] = field(default_factory=list)

    def stage(self, layer: int) -> Stage | None:
        """The latest stage in front of layer number `layer` (from 1), or None."""
        return next((s for s in reversed(self.stages) if s.after < layer), None)

    def take(self, places: torch.Tensor, valid: torch.Tensor) -> None:
        """Leave the positions int64 [B, N'] of those there are."""
        for name in ("image", "instruction"):
            setattr(self, name, getattr(self, name).gather(1, places) & valid)
        self.index = self.index.gather(1, places).masked_fill(~self.image, -1)
        self.ttv, self.norm = (x.gather(1, places) * self.image for x in (self.ttv, self.norm))
        self.valid = valid


def start_prompt(
    anatomy: Anatomy,
    ids: torch.Tensor | None,
    mask: torch.Tensor | None,
    instruction: torch.Tensor | None = None,
    relevant: torch.Tensor | None = None,
) -> Prompt:
    """The Prompt of ids [B, L] and a mask [B, L] or None; ValueError: why it cannot be pruned."""
    if ids is None:
        raise ValueError(
            "a prompt of inputs_embeds without input_ids: expected ids, which tell where the "
            "image is"
        )
    if mask is not None and (not isinstance(mask, torch.Tensor) or mask.shape != ids.shape):
        found = (
            f"is {list(mask.shape)}"
            if isinstance(mask, torch.Tensor)
            else "was prepared for each kind of layer"
        )
        raise ValueError(
            f"the attention mask {found}: expected {list(ids.shape)}, as the ids. A static cache "
            "makes another, for one length in all layers"
        )
    B, L = ids.shape
    valid = torch.ones_like(ids, dtype=torch.bool) if mask is None else mask.bool()
    if (valid[:, :-1] & ~valid[:, 1:]).any() or not valid[:, -1].all():
        raise ValueError(
            "padding on the right or in between: expected it on the left, where rows end alike"
        )
    image = (ids == anatomy.image_token_id) & valid
    n_image = image.sum(1)
    if not n_image.all():
        raise ValueError(
            f"row {n_image.argmin()} has no image token {anatomy.image_token_id}: nothing to prune"
        )
    if anatomy.video_token_id is not None and (ids == anatomy.video_token_id).any():
        raise ValueError("the prompt has video tokens: expected images")
    behind = image.flip(1).cumsum(1).flip(1) == 0  # [B, L]: no image token from here on
    if instruction is None:
        instruction = valid & behind
    else:
        instruction = _for_rows("instruction", instruction, B)
        if instruction.shape[1] > L:
            raise ValueError(
                f"instruction has {instruction.shape[1]} places: expected up to the prompt's {L}"
            )
        instruction = torch.nn.functional.pad(
            instruction.to(ids.device), (0, L - instruction.shape[1])
        )
        if (instruction & ~(valid & behind)).any():
            raise ValueError(
                "instruction names an image token, padding, or what stands before an image: "
                "expected places behind the row's last image token"
            )
    if relevant is not None:
        relevant = _for_rows("relevant", relevant, B).to(ids.device)
        if relevant.shape[1] != n_image.max():
            raise ValueError(
                f"relevant has {relevant.shape[1]} places: expected {int(n_image.max())} image "
                "tokens"
            )
    index = (image.cumsum(1) - 1).masked_fill(~image, -1)
    zeros = torch.zeros(B, L, device=ids.device)
    asked = [row[chosen].cpu().numpy() for row, chosen in zip(ids, instruction, strict=True)]
    return Prompt(L, image, valid, instruction, index, n_image, zeros, zeros, asked, relevant)


def prune(
    prompt: Prompt,
    anatomy: Anatomy,
    after: int,
    keep: torch.Tensor,
    hidden: torch.Tensor,
    compact: bool,
) -> torch.Tensor:
    """Leave the positions `keep` bool [B, N]; hidden [B, N, D] -> [B, N', D], and the Stage is
    noted in the prompt.

    Rows end alike: what is left of each moves to the right, and dropped tokens fill the left,
    masked.
    """
    keep = keep & prompt.valid
    n_left = int(keep.sum(1).max())
    places = keep.long().argsort(dim=1, stable=True)[:, -n_left:]  # [B, N'], dropped ones first
    valid = keep.gather(1, places)
    hidden = hidden.gather(1, places[..., None].expand(-1, -1, hidden.shape[2]))
    prompt.take(places, valid)
    last = prompt.stages[-1] if prompt.stages else None
    positions = (last.positions if last else prompt.positions).expand(
        *prompt.positions.shape[:-2], len(keep), -1
    )
    positions = positions.gather(-1, places.expand(*positions.shape[:-2], -1, -1))
    if compact:
        before, positions = positions[..., -1], _close_gaps(positions, valid)
        moved = (before - positions[..., -1]).reshape(-1, len(keep))[0]
        shift = moved + (last.shift if last else 0)
        # past the hook that notes positions
        rope = anatomy.text.rotary_emb.forward(hidden, position_ids=positions)
    else:
        shift = torch.zeros_like(prompt.n_image)
        rope = tuple(
            table.expand(len(keep), -1, -1).gather(
                1, places[..., None].expand(-1, -1, table.shape[2])
            )
            for table in (last.rope if last else prompt.rope)
        )
    # Without positions: a gap in them would be taken for the seam between two packed texts
    mask = create_causal_mask(anatomy.text.config, hidden, valid.long(), past_key_values=None)
    prompt.stages.append(Stage(after, valid, mask, rope, positions, shift))
    return hidden


def decode(
    prompt: Prompt,
    anatomy: Anatomy,
    stage: Stage,
    layer: int,
    hidden: torch.Tensor,
    mask: torch.Tensor | None,
    positions: torch.Tensor,
    rope: Rope,
    compact: bool,
) -> dict[str, Any]:
    """Mask and rope of the newest token, hidden [B, 1, D], for `layer` (from 1) behind a stage."""
    if not stage.decoding:
        assert prompt.cache is not None  # tokens come one by one behind a cache alone
        n_new = prompt.cache.get_seq_length(layer - 1) + 1 - stage.valid.shape[1]
        new = stage.valid.new_ones(len(hidden), n_new) if mask is None else mask[:, -n_new:].bool()
        stage.decoding["attention_mask"] = create_causal_mask(
            anatomy.text.config,
            hidden,
            torch.cat([stage.valid, new], dim=1).long(),
            prompt.cache,
            layer_idx=layer - 1,
        )
        if compact:
            rope = anatomy.text.rotary_emb.forward(
                hidden, position_ids=positions - stage.shift[:, None]
            )
        stage.decoding["position_embeddings"] = rope
    return stage.decoding


def _close_gaps(positions, valid):
    """Positions [B, N] or [3, B, N], numbered anew from 0, without those that no valid token of a
    row uses any more.

    One row of text becomes 0, 1, 2, …, as in the released code. Of a grid, rows and columns that
    are empty close up, common to its three axes; what is whole stays as it was.
    """
    flat = positions.movedim(-2, 0).flatten(1)  # [B, N or 3 · N]
    used = torch.zeros(len(flat), int(flat.max()) + 1, dtype=torch.long, device=flat.device)
    each = valid.repeat(1, flat.shape[1] // valid.shape[1]).long()
    number = used.scatter_reduce(1, flat, each, "amax").cumsum(1) - 1  # [B, positions]
    anew = number.gather(1, flat).clamp_min(0)
    return anew.view(len(flat), *positions.shape[:-2], -1).movedim(0, -2)


def _for_rows(name, given, B):
    """A mask given for B rows, or for fewer that beams or samples repeat."""
    if not isinstance(given, torch.Tensor):
        raise ValueError(
            f"{name} is a {type(given).__name__}: expected a tensor, bool [rows, places]"
        )
    if given.dtype != torch.bool or given.ndim != 2 or not len(given) or B % len(given):
        raise ValueError(
            f"{name} is {given.dtype} {list(given.shape)}: expected bool, one row for each of "
            f"{B}, or for each before beams repeat it"
        )
    return given.repeat_interleave(B // len(given), dim=0)
