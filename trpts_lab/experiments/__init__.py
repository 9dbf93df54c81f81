"""Experiments: one module per kind of record, each with `run(config) -> metrics` and
`inputs(config) -> hashes`.

A record's code hash covers what its experiment's module imports. Metrics whose name begins with
`n_` are counts and are compared exactly; all others are compared within the spread over seeds (see
`trpts_lab.regress`).
"""
