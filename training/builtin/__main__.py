"""`python -m training.builtin`: make the built-in encoder."""

from training.builtin.recipe import main

main()
