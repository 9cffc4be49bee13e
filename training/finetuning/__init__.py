"""An encoder adapted to a person's pictures.

Read in this order: memory (embeddings kept), examples (words and parts), linear, lora and tuning (learning),
methods, judge (before and after), drift (everyday questions), target (the folder), adaptation (`finetune`).
"""
