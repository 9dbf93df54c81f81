"""Numbers and statements quoted from the papers and the briefs, each with its source. No logic.

The full text of TR-PTS was not reachable when this was written. "paper" holds what public text says
of it, and "source" where that was read: the abstract (arXiv 2507.22872) or a public note
(papernotes.org, ICCV 2025, a detailed second-hand summary). TransPrune's paper was read in full,
its supplement is not public. "brief" is the summary that started this project; it is not the paper,
and the two differ. Tables stand below the statements; a test finds every quoted number in them, and
data/quotations.toml says of each quotation in the ledger where a second reader found it.
"""

FIM_IN_BLOCKS = {
    "paper": "the critical blocks differ by task: Flowers-102 blocks 8 and 10, "
    "Sun397 block 0, Camelyon all alike",
    "source": "public note",
    "brief": "fine-grained tasks put parameters in late layers, "
    "structured tasks use early ones too",
}
TRAINABLE_SHARE = {
    "paper": "0.34 % of the parameters are trained on VTAB-1k, 0.60 % on FGVC",
    "source": "public note",
    "brief": "0.34 % on VTAB-1k, 0.60 % on FGVC",
}
LAYER_WEIGHT = {
    "paper": "w_l comes from the top M % of all parameters by score; C_l = max(1, w_l / min(w) · "
    "C_min); M not public",
    "source": "public note",
    "brief": "w_l is the mean score of the layer",
}
FIM_SAMPLES = {
    "paper": "the number of samples is not in the public text",
    "source": "public note",
    "brief": "some hundred samples are enough",
}
MASK_OVERLAP = {
    "paper": "the masks of Sun397 and Camelyon overlap by 0.17; how overlap is counted is not said",
    "source": "public note",
    "brief": "tasks select different parameters",
}
SPARSE_BLOCKS = {
    "paper": "layers with sparser parameters tend to encode less informative tokens; there, "
    "selection loses least",
    "source": "public note",
    "brief": "token reduction goes to layers with few task-relevant parameters; density and "
    "redundancy are correlated",
}
UPDATE = {
    "paper": "Θ ← Θ − η (M ⊙ ∇L), with Adam",
    "source": "public note",
    "brief": "∇θ ← M ⊙ ∇θ; frozen parameters need no stored gradients",
}
VTAB_MEAN = {
    "paper": "VTAB-1k mean 75.92, full fine-tuning 65.57 (ViT-B/16, 100 epochs)",
    "source": "public note",
    "brief": "75.92 against 65.57",
}
TOKEN_RULE = {
    "paper": "CLS attention a_i; keep the top ⌊ρN⌋; merge the rest by Σ a_i x_i / Σ a_i",
    "source": "public note",
    "brief": "the same, from the final layer's attention",
}
TOKEN_LOSS = {
    "paper": "it gains: 85.1 to 87.7 on dSprites-location, 99.4 to 99.5 on Flowers-102, "
    "54.2 to 54.5 on Sun397",
    "source": "public note",
    "brief": "parameters only 72.84, both 75.92 on VTAB-1k",
}
TOKEN_SAVINGS = {
    "paper": "lowest FLOPs of the compared methods; the number is not in the public text; its "
    "ablation uses ρ = 0.95",
    "source": "public note",
    "brief": "35.3 G, where the untouched model takes 35.13 G",
}
PRUNED_ACCURACY = {
    "paper": "LLaVA-1.5-7B, High: mean ratio over eight benchmarks 100.0 % at 1.56 of 3.82 "
    "TFLOPs; Low: 98.4 % at 1.19",
    "source": "paper, table 1",
    "brief": "more than half of the TFLOPs saved at comparable accuracy",
}
BOTH_PARTS = {
    "paper": "MME 1540 with both, 1514 with IGA alone; TTV alone loses most on TextVQA, 50.9 where "
    "the unpruned model has 58.2",
    "source": "paper, tables 7 and 12",
    "brief": "together they lose less than either",
}
TTV_ALONE = {
    "paper": "the first version's abstract calls TTV alone comparable, the published one no longer "
    "does; its text calls it competitive. GQA 58.4 with TTV alone, 61.1 with IGA alone",
    "source": "abstracts of both versions; tables 7 and 12",
    "brief": "about as good as attention-based criteria",
}
POSITION_BIAS = {
    "paper": "attention prefers the start and the end of the image, TTV keeps the centre (MME)",
    "source": "paper, figure 4",
    "brief": "attention alone has a positional bias",
}
STAGED = {
    "paper": "three stages; layers one or two off cost up to 61 points of MME, without seeds; at "
    "once is not compared",
    "source": "paper, ablations",
    "brief": "stages avoid one large loss",
}
CHANGE = {
    "paper": "tokens whose representation changes little are redundant",
    "source": "paper, section 3",
    "brief": "small change in magnitude and direction means redundant",
}
NO_CHANCE_ROW = {
    "paper": "no row of random tokens at the same schedule",
    "source": "paper, tables",
    "brief": "nothing",
}
TRAINING_FREE = {
    "paper": "training-free, beside an existing model",
    "source": "abstract",
    "brief": "plugs into an existing model without training",
}
PARTS = {
    "paper": "dSprites-location: neither 12.5, tokens 14.8, parameters 85.1, both 87.7; "
    "Flowers-102 97.0, 98.8, 99.4, 99.5; Sun397 51.0, 51.2, 54.2, 54.5",
    "source": "public note",
    "brief": "VTAB-1k: parameters alone 72.84, tokens alone 68.92, both 75.92",
}
FISHER_OR_GRADIENT = {
    "paper": "no public text compares them",
    "source": "public note",
    "brief": "selection by gradients 73.21, by Fisher information 75.92",
}
PLACEMENT = {
    "paper": "ρ = 0.95, sparse, random, dense layers: dSprites-location 87.7, 85.9, 85.2; "
    "Camelyon 88.1, 87.9, 87.3; Sun397 54.5, 54.0, 53.5; Flowers-102 99.4, 99.3, 99.3",
    "source": "public note",
    "brief": "layers with few task-relevant parameters lose least",
}
FIM_FORMULA = {
    "paper": "F(θ) ≈ E[(∂L_CE/∂θ)²]; squares of samples or of batch means: not said",
    "source": "public note",
    "brief": "the same formula, over a small sample of the task's data",
}

# Fine-tuning settings of GPS (Zhang et al., CVPR 2024), the method closest to TR-PTS, with the same
# backbone. TR-PTS' own are not public; that these are where we start from is our choice. Names are
# those of `trpts.data.load.load_task`. Source: the repository FightingFighting/GPS,
# train_scripts/vit/*/*/train_gps.sh (VTAB: commit c52ea8a).
# The rest of its recipe: Adam, no weight decay, 100 epochs, 10 of them warm-up from 1e-7, down to
# 1e-8. VTAB: short side to 224, centre crop, mean and standard deviation .5, no augmentation. FGVC:
# random resized crop and flip, moving average of the weights. It trains on train and val together,
# looks at the test set after every epoch and keeps the best.
# connections: per neuron, GPS's times_para
_NAMES = ("batch_size", "lr", "drop_path", "connections", "ema_decay")
_VALUES = {
    "vtab/cifar100": (32, 0.01, 0.0, 1, None),
    "vtab/caltech101": (16, 0.002, 0.0, 1, None),
    "vtab/dtd": (16, 0.002, 0.0, 1, None),
    "vtab/oxford_flowers102": (16, 0.002, 0.0, 1, None),
    "vtab/oxford_iiit_pet": (32, 0.003, 0.0, 1, None),
    "vtab/svhn": (32, 0.005, 0.0, 1, None),
    "vtab/sun397": (16, 0.0025, 0.0, 1, None),
    "vtab/patch_camelyon": (32, 0.004, 0.0, 2, None),
    "vtab/eurosat": (16, 0.002, 0.0, 1, None),
    "vtab/resisc45": (16, 0.0015, 0.1, 1, None),
    "vtab/diabetic_retinopathy": (32, 0.002, 0.2, 1, None),
    "vtab/clevr_count": (16, 0.0003, 0.1, 1, None),
    "vtab/clevr_dist": (16, 0.002, 0.1, 1, None),
    "vtab/dmlab": (16, 0.0015, 0.1, 1, None),
    "vtab/kitti": (16, 0.001, 0.0, 1, None),
    "vtab/dsprites_loc": (32, 0.007, 0.0, 1, None),
    "vtab/dsprites_ori": (16, 0.0005, 0.2, 1, None),
    "vtab/smallnorb_azi": (32, 0.003, 0.1, 1, None),
    "vtab/smallnorb_ele": (32, 0.0003, 0.2, 1, None),
    "fgvc/cub": (32, 0.003, 0.0, 2, 0.9998),
    "fgvc/nabirds": (32, 0.0001, 0.1, 20, 0.9998),
    "fgvc/flowers": (32, 0.001, 0.1, 1, 0.99),
    "fgvc/dogs": (64, 0.0001, 0.0, 1, 0.9998),
    "fgvc/cars": (32, 0.0005, 0.0, 15, 0.9998),
}
GPS_SETTINGS = {task: dict(zip(_NAMES, values, strict=True)) for task, values in _VALUES.items()}

# Tables. Of TR-PTS, from the public note; it has means of VTAB-1k, but no groups and no task rows.
VTAB_MEANS = {"TR-PTS": 75.92, "GPS": 75.18, "LoRA": 72.63, "full": 65.57}
FGVC_TASKS = ("CUB", "NABirds", "Flowers", "Dogs", "Cars")
FGVC = {
    "full": (87.3, 82.7, 98.8, 89.4, 84.5),
    "GPS": (89.9, 86.7, 99.7, 92.2, 90.4),
    "TR-PTS": (90.0, 87.1, 99.6, 92.4, 90.6),
}
FGVC_MEANS = {"full": 88.54, "GPS": 91.78, "TR-PTS": 91.94}
# (neither, tokens alone, parameters alone, both)
ABLATION = {
    "dSprites location": (12.5, 14.8, 85.1, 87.7),
    "Flowers-102": (97.0, 98.8, 99.4, 99.5),
    "Sun397": (51.0, 51.2, 54.2, 54.5),
}
# (sparse, random, dense)
PLACED = {
    "dSprites location": (87.7, 85.9, 85.2),
    "Camelyon": (88.1, 87.9, 87.3),
    "Sun397": (54.5, 54.0, 53.5),
    "Flowers-102": (99.4, 99.3, 99.3),
}
PLACED_KEEP = 0.95  # ρ
TRAINED = {"VTAB-1k": 0.0034, "FGVC": 0.0060}  # shares
LORA_TRAINED = 0.0090  # share
OVERLAP = 0.17  # of the masks of Sun397 and Camelyon
CRITICAL_BLOCKS = {"Flowers-102": (8, 10), "Sun397": (0,)}
LOWEST = ("FLOPs", "inference memory")  # of the compared methods, it says; no numbers

# Of each task of VTAB-1k: natural, specialized, structured. From the table of V-PETL Bench, by
# authors of TR-PTS; the note on TR-PTS has neither row.
VTAB_ROWS = {
    "linear": (
        (63.4, 85.0, 63.2, 97.0, 86.3, 36.6, 51.0),
        (78.5, 87.5, 68.6, 74.0),
        (34.3, 30.6, 33.2, 55.4, 12.5, 20.0, 9.6, 19.2),
    ),
    "GPS": (
        (81.1, 94.2, 75.8, 99.4, 91.7, 91.6, 52.4),
        (87.9, 96.2, 86.5, 76.5),
        (79.9, 62.6, 55.0, 82.4, 84.0, 55.4, 29.7, 46.1),
    ),
}

# Of the brief on TR-PTS
BRIEF_VTAB = {"TR-PTS": 75.92, "full": 65.57, "LoRA": 72.11}
# {group: (mean, number of tasks)}
BRIEF_GROUPS = {"natural": (79.40, 7), "specialized": (83.45, 4), "structured": (67.52, 8)}
BRIEF_FGVC = (87.79, 84.21, 99.23, 90.11, 93.17)  # of FGVC_TASKS
BRIEF_FGVC_MEANS = {"TR-PTS": 91.94, "full": 88.54}
BRIEF_PARTS = {"parameters alone": 72.84, "tokens alone": 68.92, "both": 75.92}
BRIEF_BY_GRADIENT = 73.21
BRIEF_GFLOPS = 35.3
BRIEF_TIME_SAVED = 0.85  # of an epoch
BRIEF_KEEP = 0.7  # ρ

# TransPrune, LLaVA-1.5-7B, tables 1, 7 and 12; TFLOPs are multiply-accumulates
LLAVA_TFLOPS = {"unpruned": 3.82, "High": 1.56, "Low": 1.19}
RATIO = {"High": 100.0, "Low": 98.4}  # mean of the eight benchmarks over the unpruned model's
_BENCHMARKS = ("MME", "VQAv2", "SEED", "TextVQA", "SQA", "POPE", "GQA", "MMB")
_ROWS = {
    "unpruned": (1506, 78.5, 66.2, 58.2, 69.5, 85.9, 61.9, 64.6),
    "High": (1540, 77.9, 65.7, 57.8, 69.5, 85.0, 61.4, 66.0),
    "Low": (1491, 76.6, 64.2, 56.5, 68.7, 85.1, 60.0, 65.6),
}
LLAVA = {name: dict(zip(_BENCHMARKS, row, strict=True)) for name, row in _ROWS.items()}
TTV_ONLY = {"SQA": 68.9, "GQA": 58.4, "POPE": 82.1, "MMB": 64.9, "TextVQA": 50.9}
IGA_ONLY = {"MME": 1514, "SQA": 69.0, "GQA": 61.1, "MMB": 65.6}
MME_BY_LAYERS = (1479, 1496, 1540, 1493, 1497)  # table 9; 7, 9 and 12 are the third
MEMORY_GB = {"FastV": 14.99, "PDrop": 14.87, "SparseVLM": 19.05, "TransPrune": 14.82}  # table 8
STAGES, N_LAYERS = (7, 9, 12), 32
