"""Pictures with words, in whatever format they come.

Read in this order: samples (`Sample`, `in_words`), tars, tables, folders, datasets (`read_dataset`).
"""
