"""pixseek beside its peers, in one run on the same pictures, weights and vectors: `make bench`.

Reading order. What is asked for: `__main__`, `settings`. What numbers are and where they are kept: `results`.
The machine and its limits: `machine`. What is measured with: `environments` (the peers' own), `pictures`,
`weights`, `storing`, `libraries` (indexes of N made-up pictures). What is measured: `indexing`, `cold`,
`warm`, `upkeep`, `builtin`; `prepare` makes what they need before any of them. What comes of it:
`wording`, `goals`, `figures`, `page` (docs/benchmarks.md). What lies in `peers/` runs in
environments of the peers and imports nothing of pixseek.
"""
