"""Finds what is wrong with a job before it runs.

Layer 4. Imports what the job will meet (plan, prompts, weights, output) and runs none of it.
"""
