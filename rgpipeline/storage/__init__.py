"""Files and folders behind any fsspec URL: options, retries, whose fault an error is, local copies.

Layer 0.5, below `io`, `model` and `text`. Imports fsspec; free of pyarrow, jax and Ray.
"""
