"""The embedded face: one process, no Ray, no files.

Layer 3. Imports engine and text.

g = Generator.load("path-or-url", slots=8)
g.generate(["In the beginning"], {"max_tokens": 40})
"""

from rgpipeline.generator.generator import Generator
from rgpipeline.generator.progress import Progress
from rgpipeline.generator.sequence import Completion

__all__ = ["Completion", "Generator", "Progress"]
