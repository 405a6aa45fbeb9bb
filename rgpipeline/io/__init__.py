"""Files of rows: paths, readers, parts, and the append-only log that commits them.

Layer 1. Imports pyarrow and fsspec; free of jax and Ray.
"""
