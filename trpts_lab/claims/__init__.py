"""The ledger: every claim of the project's two briefs, what the papers' public text says, and what
follows from here.

statements   what is claimed, as data
evidence     records, benches and formulas, and how to ask them
tuning, costs, pruning   a check for each claim: a verdict that is computed, never typed
ledger       all rows; the committed ledger and the manifest of record hashes that they are held
             against
"""
