"""Benches: what is compared is what it says, and ratios and verdicts follow from the times. No test
is timed.
"""

import json
import platform
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
import timm
import torch

from trpts.cli import main, parser
from trpts.errors import TrptsError
from trpts_lab.bench import NAMES
from trpts_lab.bench import benches as bench
from trpts_lab.bench import fisher as bench_fisher
from trpts_lab.bench import gpu as bench_gpu
from trpts_lab.bench import methods as bench_methods
from trpts_lab.bench import parts as bench_parts
from trpts_lab.bench import predict as bench_predict
from trpts_lab.bench import scale as bench_scale
from trpts_lab.bench import sweep as bench_sweep
from trpts_lab.bench import tokens as bench_tokens
from trpts_lab.bench import train as bench_train
from trpts_lab.bench.benches import lines
from trpts_lab.bench.chapters import bench_chapters
from trpts_lab.bench.clock import Bench, interleaved, ratio
from trpts_lab.bench.gradient import WAYS
from trpts_lab.bench.train import TRAINED, Trainee
from trpts_lab.compared import METHODS

ROWS = {"a": {"s": [1.0, 2.0, 3.0]}, "b": {"s": [2.0, 2.0, 2.0]}}


def small(name, n_classes, *_):
    options = dict(img_size=224, patch_size=56, embed_dim=32, depth=10, num_heads=2)
    return timm.models.VisionTransformer(num_classes=n_classes, **options)


@pytest.fixture
def narrow(monkeypatch):
    """A model of the same shape of parts, small enough for a test."""
    for module in (bench_train, bench_fisher, bench_predict, bench_methods, bench_tokens):
        monkeypatch.setattr(module, "create_backbone", small)


@pytest.mark.parametrize("method", TRAINED)
def test_each_method_trains_what_it_says(narrow, method):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        trainee = Trainee(method, 2, "cpu")
        neurons, head = 10 * (3 * 32 + 32 + 128 + 32), 20 * 33
        n_all = sum(p.numel() for p in small("", 20).parameters())
        sums = 10 * ((32 + 96) + (32 + 32) + (32 + 128) + (128 + 32))  # in + out of each layer
        ours, outs = neurons * 3 + head, 10 * (96 + 32 + 128 + 32)
        wanted = {
            "full": n_all,
            "mask": n_all,
            "sparse": ours,
            "scattered": ours,
            "sparse and tokens": ours,
            "lora": 8 * sums + head,
            "lora-fa": 8 * outs + head,
            "limit": head + 32,
        }
        assert trainee.n_trainable == wanted[method]
        before = {k: v.clone() for k, v in trainee.model.state_dict().items()}
        trainee.step()
        after = trainee.model.state_dict()
    if method == "mask":
        name = "blocks.3.mlp.fc1.weight"
        changed = (before[name] != after[name]).sum(1)
        assert changed.max() <= bench_train.C
        assert changed.any()
    if method == "limit":
        assert torch.equal(before["blocks.3.mlp.fc1.weight"], after["blocks.3.mlp.fc1.weight"])


@pytest.mark.slow
def test_predicting_costs_what_stays_in_the_model(narrow):
    """Merged and folded methods leave a plain model; adapters and prompts do not; lost tokens
    save.
    """
    rows = bench_predict.bench_predict(2, 1)
    cost = {name: row["flops"] / rows["untouched"]["flops"] for name, row in rows.items()}
    assert {cost[name] for name in ("full", "LoRA, r = 8", "SSF", "TR-PTS without tokens")} == {1.0}
    assert min(cost["adapter"], cost["VPT-shallow"]) > 1
    assert cost["VPT-deep"] >= cost["VPT-shallow"]
    assert max(cost["TR-PTS"], cost["TR-PTS with EViT"], cost["TR-PTS with ToMe"]) < 1
    assert any(
        line.startswith("operations / untouched: full 1.000, ") for line in lines("predict", rows)
    )


@pytest.mark.slow
def test_a_step_of_every_method(narrow, monkeypatch):
    """What is stored by hand: biases, head, two connections per neuron with their places."""
    monkeypatch.setattr(
        bench_methods, "peak_in_a_process", lambda _, *given: bench_methods.peak_of(*given)
    )
    rows = bench_methods.bench_methods(2, 1)
    assert set(rows) == set(METHODS) - {"GPS", "FPS"}
    ours, full, head = rows["random"], rows["full"], rows["linear"]
    neurons = (ours["n_trainable"] - head["n_trainable"]) // 3
    assert ours["n_trainable"] == head["n_trainable"] + 3 * neurons
    assert ours["stored_bytes"] == 4 * ours["n_trainable"] + 2 * 2 * neurons
    assert (
        full["stored_bytes"]
        == 4 * full["n_trainable"]
        > ours["stored_bytes"]
        > head["stored_bytes"]
    )
    assert all(row["peak_bytes"] > 0 for row in rows.values())
    assert any(line.startswith("TR-PTS / full: ") for line in lines("methods", rows))


def test_the_command_knows_every_bench():
    _, commands, _ = parser()
    (what,) = (action for action in commands["bench"]._actions if action.dest == "what")
    modules = {p.stem for p in Path(bench.__file__).parent.glob("*.py")}
    others = {"__init__", "benches", "clock", "files"}
    assert set(what.choices) - {"all"} == modules - others
    assert all(isinstance(bench.bench_named(name), Bench) for name in NAMES)


def test_parts_of_a_step_by_hand():
    """Full takes 10: 3 forward, 6 backward, 1 optimiser; without weight gradients backward takes
    3.
    """
    row = {"s": [10.0], "forward": [3.0], "backward": [6.0], "optimiser": [1.0]}
    cheap = {"s": [6.5], "forward": [3.0], "backward": [3.4], "optimiser": [0.1]}
    rows = {name: row for name in ("full", "mask", "lora")} | {
        "sparse": cheap,
        "limit": cheap | {"backward": [3.0]},
    }
    found = bench_parts.shares(rows)
    assert found["full"] == pytest.approx(
        {"forward": 0.3, "input gradient": 0.3, "weight gradient": 0.3, "optimiser": 0.1}
    )
    assert found["sparse"]["weight gradient"] == pytest.approx(0.04)
    assert "limit" not in found
    rows["full"] = row | {"flops": 20.0}
    rows |= {
        bench_parts.PRODUCT: {"s": [1.0], "flops": 4.0},
        bench_parts.COPY: {"s": [2.0], "bytes": 8.0},
    }
    assert bench_parts.of_ceiling(rows) == (2.0, 4.0, 4.0)


def test_parts_and_scale_run(narrow, monkeypatch):
    monkeypatch.setattr(bench_parts, "SIDE", 8)
    monkeypatch.setattr(bench_parts, "N_COPIED", 8)
    rows = bench_parts.bench_parts(2, 1)
    for name in bench_parts.METHODS:
        assert sum(rows[name][phase][0] for phase in bench_parts.PHASES) == pytest.approx(
            rows[name]["s"][0]
        )
    assert any("of one large matrix product's" in line for line in lines("parts", rows))
    monkeypatch.setattr(bench_scale, "SIZES", {"small": "", "large": ""})
    monkeypatch.setattr(bench_scale, "peak_in_a_process", lambda *_: 5)
    rows = bench_scale.bench_scale(2, 1)
    assert list(rows) == [
        f"{size}: {method}" for size in ("small", "large") for method in bench_scale.STEPPING
    ]
    assert {row["peak_bytes"] for row in rows.values()} == {5}
    assert rows["large: sparse"]["n_trainable"] < rows["large: full"]["n_trainable"]


@pytest.mark.slow
def test_a_gpus_bench_in_its_smallest_case(narrow, monkeypatch):
    """All that it would do on a GPU but the peaks: both precisions, both ways to the gradient, a
    prefill.
    """
    monkeypatch.setattr(bench_gpu, "LAYERS_BATCH", 1)
    rows = bench_gpu.bench_gpu(64, 1, "cpu")
    for precision in ("fp32", "bf16"):
        for work in (*bench_gpu.TRAINING, "prediction", "prediction and tokens"):
            assert rows[f"ViT-Ti, {precision}: {work}"]["batch_size"] == 2
    assert "gradient, qkv, 16 columns: dense, then gather" in rows
    assert rows["prefill, High"]["macs"] < rows["prefill, unpruned"]["macs"]
    said = list(lines("gpu", rows, bars=False))
    assert any(
        line.startswith("ViT-Ti, bf16: sparse: ") and line.endswith("images a second")
        for line in said
    )


def test_a_step_in_half_precision(narrow):
    """Products are in bfloat16, the trained values and their gradients stay in float32."""
    trainee, seen = Trainee("sparse", 2, "cpu", autocast=True), []
    trainee.model.blocks[3].mlp.fc1.register_forward_hook(lambda layer, x, z: seen.append(z.dtype))
    values = trainee.model.blocks[3].mlp.fc1.values
    values.register_hook(lambda g: seen.append(g.dtype))
    trainee.step()
    assert seen == [torch.bfloat16, torch.float32]
    assert values.dtype == torch.float32


def test_what_a_sweep_adds_by_hand():
    """Two workers, 11 seconds of wall time, 20 seconds of runs: 22 / 20 − 1. The median of the
    rounds counts.
    """
    row = {"s": [11.0, 10.2, 10.4], "runs_s": [20.0, 20.0, 20.0], "n_workers": 2, "n": 4}
    assert bench_sweep.overhead(row) == pytest.approx(0.04)
    rows = {
        bench_sweep.PROCESSES: row,
        bench_sweep.ONE: {"s": [20.0, 20.0, 20.0]},
        bench_sweep.THREADS: {"s": [15.0] * 3},
    }
    text = list(lines("sweep", rows))
    assert (
        f"{bench_sweep.PROCESSES} / {bench_sweep.THREADS}: 0.693 (0.680 to 0.733), bar 1.0: met"
        in text
    )
    assert text[-1] == "the sweep's own part of its runs: 0.040, bar 0.03: missed"


def test_fisher_and_tokens_run(narrow, capsys):
    assert {len(row["s"]) for row in bench_fisher.bench_fisher(4, 2, 2).values()} == {2}
    rows = bench_tokens.bench_tokens(2, 2)
    assert rows["all tokens"]["flops"] > rows["token selection"]["flops"]
    assert any("speed-up" in line for line in lines("tokens", rows))


def test_loop_and_one_pass_do_the_same_work(narrow):
    """The rival in the Fisher bench is right too: its squares are the scores."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = small("", 20).eval()
        x, y = torch.randn(3, 3, 224, 224), torch.tensor([0, 1, 2])
    scores = bench_fisher.fisher_scores(model, [(x, y)])
    total = torch.zeros(128, 32)
    for i in range(3):
        torch.nn.functional.cross_entropy(model(x[i : i + 1]), y[i : i + 1]).backward()
        total += model.blocks[2].mlp.fc1.weight.grad.square()
        model.zero_grad()
    torch.testing.assert_close(scores["blocks.2.mlp.fc1"], total / 3, atol=1e-6, rtol=1e-3)


def test_ratio_is_of_the_same_round():
    assert ratio(ROWS, "a", "b") == (1.0, 0.5, 1.5)


def test_rounds_are_interleaved_and_the_first_is_not_counted():
    order = []
    rows = interleaved(
        {name: lambda name=name: order.append(name) or len(order) for name in "xy"}, 2
    )
    assert order == ["x", "y"] * 3
    assert rows == {"x": {"s": [3, 5]}, "y": {"s": [4, 6]}}


KEEPS = """
import torch
from trpts_lab.bench import clock
def held():
    return 4096 * int(open("/proc/self/statm").read().split()[1])
if {keep}:
    clock.keep_freed_memory()
blocks = [torch.ones(n) for n in [2**26] + 16 * [2**22]]
full = held()
del blocks
print(full - held())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")
def test_freed_memory_is_kept():
    """256 MiB in one block and 16 of 16 MiB, freed: still the process' own, where they were the
    system's again.
    """
    given_back, given_back_by_itself = (
        int(
            subprocess.run(
                [sys.executable, "-c", KEEPS.format(keep=keep)], capture_output=True, check=True
            ).stdout
        )
        for keep in (True, False)
    )
    assert given_back < 2**20
    assert given_back_by_itself > 200 * 2**20


def test_verdicts():
    seconds = {
        "full": 1.0,
        "mask": 1.0,
        "lora": 0.9,
        "lora-fa": 0.9,
        "scattered": 0.9,
        "sparse": 0.79,
        "sparse and tokens": 0.6,
        "limit": 0.6,
    }
    rows = {name: {"s": [s], "peak_bytes": 100, "n_trainable": 1} for name, s in seconds.items()}
    text = "\n".join(lines("train", rows))
    assert "sparse / full: 0.790 (0.790 to 0.790), bar 0.8: met" in text
    assert "sparse and tokens / full: 0.600 (0.600 to 0.600), bar 0.5: missed" in text
    assert "peak memory, sparse / lora: 1.000, bar 0.7: missed" in text
    assert "bar" not in "".join(lines("train", rows, bars=False))


def test_command_writes_a_file(narrow, tiny, monkeypatch, capsys):
    project = tiny({"00_a": ["1"]})
    quick = bench_tokens.BENCH._replace(run=lambda **_: bench_tokens.bench_tokens(1, 1))
    monkeypatch.setattr(bench_tokens, "BENCH", quick)
    assert main(["bench", "tokens"]) == 0
    record = json.loads(next((project.root / "data" / "bench").glob("*.json")).read_text())
    assert record["summary"] == [line.strip() for line in capsys.readouterr().out.splitlines()[1:]]
    assert record["machine"]["cores"]
    (path,) = (project.root / "data" / "bench").glob("*.json")
    before = path.read_bytes()
    # another size is shown, and is not what pages read
    assert main(["bench", "tokens", "--batch-size", "3"]) == 0
    assert path.read_bytes() == before
    assert main(["bench", "tokens", "--rounds", "0"]) == 2
    assert "--rounds: expected a whole number from 1" in capsys.readouterr().err


def test_chapters_are_timed_from_nothing(tiny):
    """Twice, each time without earlier records; a chapter that fails has no time."""
    project = tiny({"00_a": ["import time; time.sleep(0.5)"]})
    old = project.store("quick").loose / "old.json"
    old.parent.mkdir(parents=True)
    old.write_text("{}")
    rows = bench_chapters(rounds=2)
    assert list(rows) == ["00_a"]
    assert len(rows["00_a"]["s"]) == 2
    assert min(rows["00_a"]["s"]) > 0.5
    assert not old.exists()
    assert (project.runs("quick") / "00_a.ipynb").is_file()
    said = list(lines("chapters", {"a": {"s": [100.0]}, "b": {"s": [390.0]}}))
    assert said[-2:] == ["all: 490 s, bar 480: missed", "the longest: 390 s, bar 120: missed"]
    nb = nbformat.read(project.notebooks / "00_a.ipynb", as_version=4)
    nb.cells[-1].source = "raise ValueError('planted')"
    nbformat.write(nb, project.notebooks / "00_a.ipynb")
    with pytest.raises(TrptsError, match="planted"):
        bench_chapters()


@pytest.mark.parametrize("way", WAYS)
def test_all_ways_to_the_gradient_agree(way):
    generator = torch.Generator().manual_seed(0)
    g, x = torch.randn(30, 6, generator=generator), torch.randn(30, 40, generator=generator)
    index = torch.rand(6, 40, generator=generator).topk(2, 1).indices.sort(1).values
    wanted = torch.tensor(
        [[(g[:, o] * x[:, index[o, k]]).sum() for k in range(2)] for o in range(6)]
    )
    torch.testing.assert_close(WAYS[way](g, x, index), wanted, atol=1e-5, rtol=1e-5)
