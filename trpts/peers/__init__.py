"""The methods TR-PTS is compared with, each behind `tune(method=…)`; importing this registers them.

bitfit; lora and shira (both by PEFT); adapter; vpt-shallow, vpt-deep; ssf; gps, fps, magnitude,
random: their selection at an equal number of connections per neuron; mask: TR-PTS's update as it is
usually written; tome, evit: TR-PTS's connections with another way to lose tokens. Each docstring
names its paper and counts its parameters.
"""

import importlib
import pkgutil

for _found in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_found.name}")
