"""A prompt in the language model: which of its tokens are an image's, and which are left."""

from dataclasses import dataclass, field
from typing import Any

import numpy
import torch
from transformers.cache_utils import Cache

from trpts.transprune.families import Anatomy
from trpts.transprune.rivals import raters

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
    index, group  int64 [B, N], see `criteria.Candidates`
    n_image      int64 [B], image tokens of the prompt
    n_group      int64 [B, groups], those of each group
    raters       bool [B, N], those of the instruction, or all until `find_raters`
    ttv, norm    float32 [B, N], 0 outside the image
    """

    length: int
    image: torch.Tensor
    valid: torch.Tensor
    instruction: torch.Tensor
    index: torch.Tensor
    group: torch.Tensor
    n_image: torch.Tensor
    n_group: torch.Tensor
    ttv: torch.Tensor
    norm: torch.Tensor
    ids: list[numpy.ndarray]
    relevant: torch.Tensor | None
    raters: torch.Tensor
    idle: bool = False  # no stage drops a token
    cache: Cache | None = None
    positions: torch.Tensor = field(init=False)  # as rope, set in front of the first layer
    rope: Rope = field(init=False)
    attention: torch.Tensor | None = None
    stages: list[Stage] = field(default_factory=list)

    def stage(self, layer: int) -> Stage | None:
        """The latest stage in front of layer number `layer` (from 1), or None."""
        return next((s for s in reversed(self.stages) if s.after < layer), None)

    def find_raters(self, embeds: torch.Tensor) -> None:
        """Set `raters` by the embeddings [B, N, D] in front of the first layer."""
        rows = zip(embeds.detach(), self.image, self.instruction, strict=True)
        self.raters = torch.stack([raters(*row) for row in rows])

    def take(self, places: torch.Tensor, valid: torch.Tensor) -> None:
        """Keep only the positions int64 [B, N'] of those there are."""
        for name in ("image", "instruction", "raters"):
            setattr(self, name, getattr(self, name).gather(1, places) & valid)
        self.index = self.index.gather(1, places).masked_fill(~self.image, -1)
        self.group = self.group.gather(1, places)
        self.ttv, self.norm = (x.gather(1, places) * self.image for x in (self.ttv, self.norm))
        self.valid = valid


def start_prompt(
    anatomy: Anatomy,
    ids: torch.Tensor | None,
    mask: torch.Tensor | None,
    video_frames: list[int] | None = None,
    instruction: torch.Tensor | None = None,
    relevant: torch.Tensor | None = None,
    frames: str = "all",
) -> Prompt:
    """The Prompt of ids [B, L], a mask [B, L] or None, and the frames of each run of video tokens;
    ValueError: why it cannot be pruned.
    """
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
    image, video = (ids == anatomy.image_token_id) & valid, torch.zeros_like(valid)
    if anatomy.video_token_id is not None:
        video = (ids == anatomy.video_token_id) & valid
        image = image | video
    n_image = image.sum(1)
    if not n_image.any():
        raise ValueError(f"no row has an image token {anatomy.image_token_id}: nothing to prune")
    group = torch.zeros_like(ids)
    if frames == "each" and video.any():
        if video_frames is None:
            raise ValueError("frames='each' without a video's pixels: expected pixel_values_videos")
        group = frames_of(video, video_frames)
    n_group = group.new_zeros(B, int(group.max()) + 1).scatter_add(1, group, image.long())
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
    return Prompt(
        length=L,
        image=image,
        valid=valid,
        instruction=instruction,
        index=index,
        group=group,
        n_image=n_image,
        n_group=n_group,
        ttv=zeros,
        norm=zeros,
        ids=asked,
        relevant=relevant,
        raters=instruction,
    )


def frames_of(video: torch.Tensor, n_frames: list[int]) -> torch.Tensor:
    """int64 [B, L]: 1, 2, … for the tokens of a row's frames, 0 elsewhere.

    video     bool [B, L]: video tokens
    n_frames  frames of each run of them, in the order of rows. All frames of a run have equally
              many tokens; the last also takes the remainder (LLaVA-OneVision's newline). Beams
              repeat rows
    raises    ValueError: another number of runs
    """
    first = video & ~torch.nn.functional.pad(video[:, :-1], (1, 0))
    times, over = divmod(int(first.sum()), len(n_frames))
    if over or not times or len(video) % times:
        raise ValueError(
            f"the prompt has {int(first.sum())} runs of video tokens: expected {len(n_frames)}"
        )
    if times > 1:
        return frames_of(video[::times], n_frames).repeat_interleave(times, dim=0)
    run = (first.flatten().cumsum(0) - 1).view_as(video)[video]  # [video tokens of all rows]
    length, count = run.bincount(), torch.tensor(n_frames, device=video.device)
    place = torch.arange(len(run), device=video.device) - (length.cumsum(0) - length)[run]
    within = (place // (length // count).clamp_min(1)[run]).minimum(count[run] - 1)
    frame = torch.zeros_like(video, dtype=torch.long)
    frame[video] = (count.cumsum(0) - count)[run] + within + 1
    before = frame.masked_fill(~video, frame.max() + 1).amin(1, keepdim=True) - 1
    return (frame - before) * video


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
