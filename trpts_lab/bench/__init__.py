"""`trpts bench`: one clock, and a module for each bench, which says all that is known of it in its
`BENCH`. A new bench is a module, and its name here.
"""

NAMES = ("train", "methods", "fisher", "tokens", "gradient", "parts", "scale", "predict", "sweep")
NAMES += ("busy", "transprune", "gpu", "chapters")
