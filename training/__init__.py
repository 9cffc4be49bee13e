"""Making and judging encoders.

Read in this order: datasets (tars, captions, prompts), drawings (data/draw_samples.py as a set),
backbone (MobileNetV2), features (cached views), teacher (cached sentence embeddings), tokenizer,
models (the two towers), losses, distil and contrast (the two stages), evaluate (recall), export (ONNX),
builtin (the recipe of the shipped encoder, one command).

Nothing is imported here: reading `training` costs nothing and needs no torch.
"""
