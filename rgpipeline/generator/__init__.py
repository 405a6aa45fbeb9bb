"""Generates in this process, without Ray or an output folder.

Layer 4. Imports engine, tasks and text.

g = Generator.load("path-or-url", slots=8)
g.generate(["In the beginning"], {"max_tokens": 40})
"""

from rgpipeline.generator.calls import Progress
from rgpipeline.generator.generator import Generator
from rgpipeline.generator.running_sequence import Completion
from rgpipeline.generator.state import State
from rgpipeline.tasks.score_task import Score

__all__ = ["Completion", "Generator", "Progress", "Score", "State"]
