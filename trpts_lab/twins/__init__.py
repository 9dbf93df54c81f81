"""Twins: 24 procedural tasks that stand in for VTAB-1k's 19 and FGVC's 5, offline and deterministic
by seed.

A twin asks what its real counterpart asks, of rendered 32 x 32 images: its `differs` says what is
different. The six that show solids on a plane or sprites can be drawn at any size
(`Twin.any_size`). Pre-training (`trpts_lab.weights.formula`) shares no generator with them.
"""

from trpts_lab.twins import (
    fine_grained_animals,
    fine_grained_dogs,
    fine_grained_things,
    natural,
    nature,
    places,
    roads,
    specialized,
    structured,
    tabletop,
    textures,
)
from trpts_lab.twins.twin import GROUPS, SPLITS, Twin

_MODULES = (
    natural,
    nature,
    textures,
    places,
    specialized,
    tabletop,
    roads,
    structured,
    fine_grained_animals,
    fine_grained_dogs,
    fine_grained_things,
)
_MADE = {twin.name: twin for module in _MODULES for twin in module.TWINS}
# In the order of VTAB-1k's tables, then FGVC's.
_ORDER = (
    *("cifar100", "caltech101", "dtd", "flowers102", "pets", "svhn", "sun397"),
    *("camelyon", "eurosat", "resisc45", "retinopathy"),
    *(
        "clevr_count",
        "clevr_dist",
        "dmlab",
        "kitti",
        "dsprites_loc",
        "dsprites_ori",
        "smallnorb_azi",
        "smallnorb_ele",
    ),
    *("cub", "nabirds", "oxford_flowers", "dogs", "cars"),
)
TWINS = {f"{name}_twin": _MADE[f"{name}_twin"] for name in _ORDER}

__all__ = ["GROUPS", "SPLITS", "TWINS", "Twin"]
