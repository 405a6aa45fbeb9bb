"""Text to token ids and back: tokenizer, incremental detokenisation, stop strings, chat.

Layer 1. Free of jax; knows nothing of models, files of rows, or Ray.
"""
