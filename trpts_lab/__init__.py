"""The laboratory's bookkeeping: experiments, records of what was measured, and checks that they
still hold.
"""
