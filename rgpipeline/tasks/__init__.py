"""What a job does with its rows: how a row becomes engine work, and which columns come of it.

Layer 3. Imports the engine's jax-free half, io and text; knows no plan and no worker.
"""
