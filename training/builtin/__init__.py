"""The recipe of the encoder that ships with pixseek.

Read in this order: collection (sets, prompts, sentences alone), drawings (pictures made here),
backbone (MobileNetV2), arrays (files written whole), features (cached views), teacher (cached sentence
embeddings), tokenizer, captions (the decoder's pieces), models (both towers and the decoder), losses, frozen
(the untouched backbone, and the baseline), distil and contrast (the stages), export (ONNX), rebuilt (and
back), judge (the card's numbers), recipe (the stages in order, one command).

Nothing is imported here: reading `training` costs nothing and needs no torch.
"""
