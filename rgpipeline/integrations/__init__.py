"""rgpipeline inside other people's frameworks, a module for each.

Layer 6. Each module imports its framework, so import the one that you need.
"""
