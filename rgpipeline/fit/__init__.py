"""Whether a model fits a TPU, with how many slots, and how fast it can be: asked of the compiler.

Layer 4. Free of jax: compiling happens in another process
(`rgpipeline.engine.programs.compiling`), and what it leaves is text to be read.
"""

from rgpipeline.fit.estimate import FitRequest, fit
from rgpipeline.fit.fit_report import FitReport
from rgpipeline.fit.job_estimate import JobEstimate, fit_job

__all__ = ["FitReport", "FitRequest", "JobEstimate", "fit", "fit_job"]
