"""A training of a person's own, from a recipe.

Read in this order: recipes (what is written by hand), architecture (open_clip's models), pack (the pictures,
read once), batches, teaching (what another encoder says), objective (losses), checkpoint (whose it is), log,
progress, pretrain (the loop). Recipes to start from are in `examples`.
"""
