"""Files that lie: valid deltas, exports, checkpoints and weights, each mutated once or twice by a
seed, and read.

    PYTHONPATH=. python tests/lying_files.py 10000 --seed 1   # the long run; the tests take 400

Each must end in one sentence that names the file, or be accepted and then do what a valid file
does.
"""

import argparse
import copy
import json
import random
import sys
import tempfile
import time
import warnings
from pathlib import Path

import torch
from safetensors.torch import load, save, save_file

from trpts import backbones
from trpts.backbones import create_backbone
from trpts.data import Split
from trpts.delta import load_delta, save_delta, unload_delta
from trpts.files import write_tensors
from trpts.saved_models import MODEL_FORMAT, load_model
from trpts.sparse import attach
from trpts.training import Training
from trpts.training_run import Run

MINI = dict(img_size=8, patch_size=4, in_chans=3, embed_dim=8, depth=2, num_heads=2)
READING = {"image_size": 8, "normalization": "half", "resize": "squash"}
LONGEST_S, LONGEST_TEXT = 5.0, 1500
KINDS = ("delta", "export", "checkpoint", "weights")


class Lab:
    """A folder with one valid file of each kind, and how each is read."""

    def __init__(self, folder):
        backbones.SMALL["vit_mini"] = MINI
        self.folder = Path(folder)
        generator = torch.Generator().manual_seed(0)
        self.images = torch.randn(4, 3, 8, 8, generator=generator)
        self.split = Split(self.images, torch.tensor([0, 1, 2, 0]))
        model = create_backbone("vit_mini", 3, seed=1)
        save_file(
            {k: t for k, t in model.state_dict().items() if not k.startswith("head.")},
            self.path("weights"),
        )
        names = [
            n
            for n, m in model.named_modules()
            if n.startswith("blocks.") and isinstance(m, torch.nn.Linear)
        ]
        attach(
            model,
            {
                n: torch.tensor([[1, 3]]).expand(len(model.get_submodule(n).weight), 2).clone()
                for n in names
            },
        )
        notes = {
            "backbone": "vit_mini",
            "reading": READING,
            "class_names": ["ant", "bee", "cow"],
            "tokens": {"blocks": [1], "keep": 0.5},
        }
        save_delta(
            model, self.path("delta"), **notes, settings={"lr": 0.001, "options": {"keep": 0.5}}
        )
        plain, _ = load_model(self.path("delta"), self.path("weights"))
        write_tensors(self.path("export"), plain.state_dict(), notes | {"format": MODEL_FORMAT})
        self.run(self.path("checkpoint")).to_the_end()
        self.plain = create_backbone("vit_mini", 3, self.path("weights"), seed=5).eval()
        self.untouched = {k: t.clone() for k, t in self.plain.state_dict().items()}

    def path(self, kind):
        return self.folder / f"{kind}.safetensors"

    def run(self, path):
        training = Training(create_backbone("vit_mini", 3, seed=2), self.split, 2, batch_size=2)
        return Run(training, self.split, {"lr": 0.002}, path)

    @torch.no_grad()
    def use(self, kind, path):
        """Read the file as its command does, and use what it says."""
        if kind == "checkpoint":
            self.run(path).to_the_end()
        elif kind == "weights":
            create_backbone("vit_mini", 3, path)(self.images)
        else:
            model, _ = load_model(path, self.path("weights"))
            model(self.images)
        if kind == "delta":
            try:
                load_delta(self.plain, path)
                self.plain(self.images)
            finally:
                unload_delta(self.plain)
                changed = [
                    k
                    for k, t in self.plain.state_dict().items()
                    if not torch.equal(t, self.untouched[k])
                ]
                assert not changed, f"taking the delta out leaves {changed} changed"


def nested(depth):
    return json.loads("[" * depth + "]" * depth)


ODD = (
    None,
    True,
    -1,
    0,
    1,
    2,
    3.0,
    32.0,
    8.0,
    0.5,
    1e-9,
    float("inf"),
    float("nan"),
    2**70,
    10**400,
    "",
    "x",
    "x" * 5000,
    "\ud800",
    "\x1b[2J",
    "../../etc/passwd",
    "resnet18",
    "hf-hub:a/b",
    "vit_mini",
    "vit_gigantic_patch14_clip_224",
    "vit_tiny_patch16_224.nonesuch",
    "trpts delta 1",
    MODEL_FORMAT,
    [],
    [[]],
    {},
    [3.0],
    [1.0],
    [True],
    ["ant"] * 3,
    ["ant", "ant", "bee"],
    ["a"] * 20000,
    list(range(5000)),
    nested(60),
    nested(900),
    {"a": nested(300)},
)
DTYPE_NAMES = (
    "F4",
    "F8_E4M3",
    "F8_E8M0",
    "C64",
    "I8",
    "U8",
    "I32",
    "U32",
    "F16",
    "F64",
    "BOOL",
    "x",
    3,
)
DTYPES = (
    torch.int8,
    torch.int64,
    torch.bool,
    torch.float16,
    torch.bfloat16,
    torch.float64,
    torch.complex64,
)
TENSOR_NAMES = (
    "",
    ".",
    "x",
    "index.head",
    "bias.head",
    "head",
    "head.weight",
    "index.",
    "values.x",
    "a.b.c",
    "optimizer.0",
    "optimizer.0.x",
    "optimizer.a.b",
    "model.",
    "model.x",
    "\x1b",
    "x" * 10_000,
)


def change_json(rng, value):
    """A value with one place in it changed, dropped, renamed or doubled."""
    value = copy.deepcopy(value)
    place = value
    while True:
        keys = list(place) if isinstance(place, dict) else list(range(len(place)))
        if not keys:
            return rng.choice(ODD)
        key = rng.choice(keys)
        if isinstance(place[key], (dict, list)) and place[key] and rng.random() < 0.7:
            place = place[key]
            continue
        how = rng.random()
        if how < 0.7:
            place[key] = rng.choice(ODD)
        elif how < 0.85:
            del place[key]
        elif isinstance(place, dict):
            place[rng.choice(["", "x", f"{key}s", "format", "tokens"])] = place.pop(key)
        else:
            place.append(place[key])
        return value


def split_file(raw):
    n = int.from_bytes(raw[:8], "little")
    return json.loads(raw[8 : 8 + n]), raw[8 + n :]


def join_file(header, data):
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


def change_notes(rng, raw):
    header, data = split_file(raw)
    if "notes" not in header.get("__metadata__", {}):
        return change_bytes(rng, raw)
    notes = json.loads(header["__metadata__"]["notes"])
    text = rng.choice(
        ["", "{", "[]", "null", "[" * 100_000, '{"a":' * 5000, json.dumps(change_json(rng, notes))]
        + [None] * 12
    )
    header["__metadata__"]["notes"] = json.dumps(change_json(rng, notes)) if text is None else text
    return join_file(header, data)


def change_header(rng, raw):
    header, data = split_file(raw)
    name = rng.choice([n for n in header if n != "__metadata__"])
    entry, shape = header[name], header[name]["shape"]
    how = rng.randrange(6)
    if how == 0:
        entry["dtype"] = rng.choice(DTYPE_NAMES)
    elif how == 1:
        entry["shape"] = rng.choice(
            [[], [0], [-1], [2**40, 0], [2**63], [1, *shape], shape[::-1], [3.0], "x"]
        )
    elif how == 2:
        entry["data_offsets"] = rng.choice([[0, 0], [0, 2**60], [5, 1], [-1, 4], [0, 4], "x"])
    elif how == 3:
        new = rng.choice(
            [*TENSOR_NAMES, name.upper(), f"{name}.x", name.rpartition(".")[2], f"values.{name}"]
        )
        header[new] = header.pop(name)
    elif how == 4:
        header["__metadata__"] = rng.choice([None, [], {}, {"notes": 3}, {"notes": None}, "x"])
    else:
        return join_file(change_json(rng, header), data)
    return join_file(header, data)


def change_bytes(rng, raw):
    raw, n_header = bytearray(raw), 8 + int.from_bytes(raw[:8], "little")
    how = rng.randrange(6)
    place = rng.randrange(len(raw))
    if how == 0:
        return bytes(raw[:place])
    if how == 1:
        return bytes(raw) + rng.randbytes(rng.choice([1, 8, 1000]))
    if how == 2:
        return rng.choice([0, 1, n_header, 2**24, 2**40, 2**64 - 1]).to_bytes(8, "little") + bytes(
            raw[8:]
        )
    where = (
        range(min(n_header, len(raw))) if how == 3 else range(min(n_header, len(raw) - 1), len(raw))
    )
    for _ in range(rng.choice([1, 3, 20])):
        raw[rng.choice(where)] ^= 1 << rng.randrange(8)
    if how == 5:
        raw[place : place + 40] = bytes(min(40, len(raw) - place))
    return bytes(raw)


def change_tensors(rng, raw):
    """Another valid file, with a tensor that was changed, renamed, dropped or added."""
    header, _ = split_file(raw)
    tensors = load(raw)
    name = rng.choice(list(tensors))
    t = tensors.pop(name)
    how = rng.randrange(11)
    if how <= 2 and t.is_floating_point():
        t = t.to(torch.float64, copy=True) if how == 2 else t.clone()
        t[(0,) * t.ndim] = 1e300 if how == 2 else rng.choice([torch.inf, torch.nan, -torch.inf])
    elif how == 3:
        t = t.to(rng.choice(DTYPES))
    elif how == 4:
        shapes = [torch.tensor(1.0), torch.zeros(0), t[None], t.flatten()]
        shapes += [t[:0], t.transpose(0, -1).contiguous(), torch.cat([t, t])] if t.ndim else []
        t = rng.choice(shapes)
    elif how == 5:
        tensors[rng.choice(TENSOR_NAMES)] = t.clone()
    elif how == 6:
        name = rng.choice([*TENSOR_NAMES, f"{name}2"])
    elif how == 7 and name.startswith("index."):
        t = t.long()
        t[0] = rng.choice([t[0].flip(0), t[0] * 0, t[0] + 60000, t[0] * 0 + MINI["embed_dim"]])
        t = t.to(torch.int32)
    elif how == 8:
        tensors |= {
            "index.head": torch.arange(2).repeat(3, 1).int(),
            "values.head": torch.full((3, 2), 9.0),
        }
        tensors["bias.head"] = torch.zeros(rng.choice([3, MINI["embed_dim"]]))
    elif how == 9:
        k = rng.choice([0, 1, 2, 5000])
        tensors |= {"head.weight": torch.zeros(k, MINI["embed_dim"]), "head.bias": torch.zeros(k)}
    if how < 10:  # else it is dropped
        tensors[name] = t
    return save(tensors, header.get("__metadata__"))


CHANGES = (change_notes, change_notes, change_header, change_bytes, change_tensors, change_tensors)


def mutated(seed, raw):
    """The file, changed once or twice."""
    rng = random.Random(seed)
    for _ in range(rng.choice([1, 1, 1, 2])):
        try:
            raw = rng.choice(CHANGES)(rng, raw)
        except Exception:  # noqa: BLE001, RUF100 - the first change left nothing that the second could take apart
            break
    return raw


def look(lab, kind, seed):
    """None if the mutated file is refused in a sentence or used as a valid one is; else what
    happened.
    """
    path = lab.folder / f"lie-{kind}.safetensors"
    path.write_bytes(mutated(f"{kind} {seed}", lab.path(kind).read_bytes()))
    start = time.monotonic()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            lab.use(kind, path)
    except (ValueError, FileNotFoundError) as error:
        text = str(error)
        if "\n" in text or len(text) > LONGEST_TEXT or not text.isprintable():
            return f"{len(text)} characters: {text[:200]!r}"
        if path.name not in text and "logits" not in text and "the loss of" not in text:
            return f"a sentence without the file: {text[:300]}"
    except BaseException as error:  # noqa: BLE001, RUF100 - panics of extensions are not Exceptions
        if isinstance(error, KeyboardInterrupt):
            raise
        return f"{type(error).__name__}: {str(error)[:300]}"
    seconds = time.monotonic() - start
    return f"it took {seconds:.1f} s" if seconds > LONGEST_S else None


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("n", type=int, nargs="?", default=10_000, help="files of each kind")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        lab, faults = Lab(folder), 0
        for nth in range(arguments.n):
            for kind in KINDS:
                seed = arguments.seed * 10**9 + nth
                if fault := look(lab, kind, seed):
                    faults += 1
                    print(f"{kind} {seed}: {fault}", flush=True)
            if (nth + 1) % 500 == 0:
                print(f"{nth + 1} files of each kind, {faults} faults", file=sys.stderr, flush=True)
    print(f"{arguments.n} files of each of {', '.join(KINDS)}: {faults} faults")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
