"""Files and folders behind any fsspec URL: options, timeouts, retries, errors, local copies.

Layer 0.5, below `io`, `model` and `text`. Imports fsspec; free of pyarrow, jax and Ray.
"""
