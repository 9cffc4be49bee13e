"""pixseek beside its peers, in one run on the same pictures, weights and vectors: `make bench`.

Reading order. What is asked for: `__main__`, `settings`. What numbers are and where they are kept: `results`.
The machine and its limits: `machine`. What is measured with: `environments` (the peers' own), `pictures`,
`weights`, `libraries` (indexes of N made-up pictures). What is measured: `indexing`, `cold`, `warm`,
`upkeep`, `builtin`. What comes of it: `page` (docs/benchmarks.md). The files in `peers/` run in the peers'
environments and import nothing of pixseek.
"""
