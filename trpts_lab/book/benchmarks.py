"""The page with the commands that reproduce TransPrune's table 1, its numbers, and hours."""

from statistics import median

import pandas as pd
from transformers import LlamaConfig

from trpts.lmms import BASES
from trpts.transprune import HIGH, LOW_INFERRED, macs
from trpts_lab import paper
from trpts_lab.bench.files import read_whole
from trpts_lab.book.words import plain
from trpts_lab.claims.pruning import LLAVA, N_IMAGE_TOKENS

# Benchmark of the paper: (lmms-eval's task, questions by the data set's own account, what differs)
TASKS = {
    "MME": ("mme", 2374, "the paper has the perception part, 2,114 of them"),
    "VQAv2": ("vqav2_val", 214354, "the paper has the test split, which a server judges"),
    "SEED": ("seedbench", 17990, "the paper has those on single images, 14,233 of them"),
    "TextVQA": ("textvqa_val", 5000, "LLaVA's own prompt adds words that an OCR read: `ocr: true`"),
    "SQA": ("scienceqa_img", 2017, ""),
    "POPE": ("pope", 9000, "LLaVA's number is the F1 score"),
    "GQA": ("gqa", 12578, ""),
    "MMB": ("mmbench_en_dev", 4329, "judged with the help of a language model behind an API"),
}
SCHEDULES = {"unpruned": None, "High": HIGH, "Low": LOW_INFERRED}
NAMES = {"High": "high", "Low": "low"}  # as `schedule=` has them
N_TEXT = 60  # tokens of a usual prompt beside the image's
TOWER = 304e6 * 577  # multiply-accumulates of CLIP's ViT-L/14 at 336 pixels, its products alone


def benchmarks_page(project):
    """The page, in Markdown."""
    bench = read_whole(project, "transprune")
    rate = bench["rows"]["unpruned"]["macs"] / median(bench["rows"]["unpruned"]["s"])
    config = LlamaConfig(**LLAVA)
    seconds = {
        name: (macs(config, N_IMAGE_TOKENS, plan, N_TEXT, overhead=True) + TOWER) / rate
        for name, plan in SCHEDULES.items()
    }
    rows = [
        {"benchmark": name, "task": f"`{task}`", "questions": f"{n:,}"}
        | {
            label: f"{paper.LLAVA[label][name]:.{0 if name == 'MME' else 1}f}"
            for label in SCHEDULES
        }
        | {"hours": " / ".join(f"{n * seconds[x] / 3600:,.0f}" for x in ("unpruned", "High"))}
        for name, (task, n, _) in TASKS.items()
    ]
    table = pd.DataFrame(rows).to_markdown(index=False, disable_numparse=True)
    notes = "\n".join(f"- {name}: {note}." for name, (*_, note) in TASKS.items() if note)
    known = ", ".join(f"`pruned_{base}`" for base in BASES)
    tasks = ",".join(task for task, *_ in TASKS.values())
    named = " ".join((*NAMES.values(), "released", "fastv", "pyramiddrop", "divprune"))
    machine = bench["machine"]
    return f"""# TransPrune's table 1, on your own machine

The eight benchmarks of the paper's table 1 need LLaVA-1.5-7B and its images, which are not here:
**we have not run them**. With [lmms-eval](https://github.com/EvolvingLMMs-Lab/lmms-eval) you can.
It makes the prompts, fetches the images and judges the answers. `trpts` adds the schedule: where
both are installed, lmms-eval knows the models {known}.

```
pip install ".[vlm]" lmms-eval
hf download llava-hf/llava-1.5-7b-hf    # 14 GB

ARGS=pretrained=llava-hf/llava-1.5-7b-hf,device_map=auto
TASKS={tasks}
MORE="--tasks $TASKS --batch_size 1 --log_samples --output_path lmms"

lmms-eval --model llava_hf --model_args $ARGS $MORE
for NAME in {named}; do
    lmms-eval --model pruned_llava_hf --model_args $ARGS,schedule=$NAME $MORE
done
```

`schedule` is one of those of `trpts prune`. Layers are scaled to the model where it has other than
{paper.N_LAYERS}. A prompt without an image is not pruned. An error in a generation ends the run:
lmms-eval itself would count it as an empty answer.

## What the paper has, and how long it takes

{table}

The accuracies are the paper's (table 1, LLaVA-1.5-7B). MME is a sum of points, the others are per
cent. What differs:

{notes}

The hours, unpruned and at High, are reckoned, not measured. A question costs LLaVA-1.5-7B's
multiply-accumulates, the vision tower included. At the speed that `trpts bench transprune` measured
for a smaller language model on {machine["cores"]} cores ({plain(machine["processor"])}), in
float32, that is {seconds["unpruned"]:.0f} s a question unpruned and {seconds["High"]:.0f} s at
High. We have not measured a GPU. The paper reports 111 ms a question of MME with TransPrune, on an
A100 (table 8).

"Low" is inferred: the paper does not publish its shares (see [chapter 5](notebooks/05_transprune)).
"""
