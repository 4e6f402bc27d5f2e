"""The fault kit: real runs that are disturbed on purpose, and a ledger of what they kept.

A run of the real command goes over drawn images; its operator notes every row that it is called
with in a file of its own, which the product never reads. At a share of the run a fault strikes.
Where the run stops, the same command is given again. Then what lies in the store is held against
the plan, against that file, and against a run that nothing disturbed.
"""
