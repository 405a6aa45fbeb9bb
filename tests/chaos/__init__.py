"""Kills, hangs and failing requests against whole jobs: `python -m tests.chaos`."""
