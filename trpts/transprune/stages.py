"""What the layers behind a stage are given: hidden states, mask and positions of what is left."""

import torch
from transformers.masking_utils import create_causal_mask

from trpts.transprune.families import Anatomy
from trpts.transprune.prompt import Prompt, Stage


def prune(
    prompt: Prompt,
    anatomy: Anatomy,
    after: int,
    keep: torch.Tensor,
    hidden: torch.Tensor,
    compact: bool,
) -> torch.Tensor:
    """Keep only the positions `keep` bool [B, N]; hidden [B, N, D] -> [B, N', D], and the Stage is
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
