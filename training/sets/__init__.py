"""Pictures with words, in whatever format they come.

Read in this order: samples (`Sample`), tars, tables, folders, datasets (`read_dataset`).
"""
