"""rgpipeline: batch generation with RecurrentGemma (Griffin) models.

A table of prompts in, every completion out, however long, with nothing lost.
"""

__version__ = "0.1.0"
