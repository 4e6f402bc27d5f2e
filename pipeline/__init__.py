"""What an edit is: columns, operators, plans, identity and storage. No Ray, no torch.

Read in this order:

- `columns`   every column a row can carry, in one place
- `operator`  the contract of one step
- `plan`      checked, ordered stages; `recipe` reads one from TOML
- `identity`  fingerprints, keys and seeds
- `inputs`    the table of rows that a run starts from; `planning` writes it down
- `storage`   reading and atomic writing; `run_folder` names what lies where
- `manifest`  what is known of every row at the end; `policy` decides what is accepted
"""
