"""The ledger: every claim of the project's two briefs, what the papers' public text says, and what
follows from here.

statements   what is claimed, as data
evidence     records, benches and formulas, and how to ask them
selecting, quoted, costs, beyond   the checks on TR-PTS, and
pruning, deploying   on TransPrune: a verdict that is computed, never typed
ledger       all rows; the committed ledger and the manifest of record hashes that they are held
             against
"""
