"""Experiments, records of what was measured, and checks that the records still hold."""
