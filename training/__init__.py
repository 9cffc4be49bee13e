"""Making and judging encoders, and reading the pictures and words for it.

Read in this order. Errors: errors. A set in any format: samples (`Sample`), tars, tables, folders,
datasets (`read_dataset`). How good: metrics, evaluate. How long: run. The shipped encoder: builtin, a
room in the room, with its own map.

Nothing is imported here: reading `training` costs nothing and needs no torch.
"""
