"""Fault injection: real runs that are disturbed on purpose, and counts of what they kept.

A run of the real command goes over drawn images; its operator writes every row that it is called
with into a file of its own, which the product never reads. At a share of the run a fault strikes.
Where the run stops, the same command is given again. Then the contents of the store are compared
with the plan, with that file, and with a run that nothing disturbed.

- `faults`    each fault, as the course of one disturbed run; `trial` the run that is disturbed
- `matrix`    every fault at every share of a run on every store
- `operator`  the traced operator; `outcome` the comparison
- `servers`   S3 servers on this machine; `proxy` a proxy that disturbs them
"""
