"""The recipe of the encoder that ships with pixseek.

Read in this order: collection (sets, prompts, sentences alone), drawings (pictures made here),
backbone (MobileNetV2), features (cached views), teacher (cached sentence embeddings), tokenizer,
models (both towers and the caption decoder), losses, distil and contrast (the two stages),
export (ONNX), recipe (the stages in order, one command).

Nothing is imported here: reading `training` costs nothing and needs no torch.
"""
