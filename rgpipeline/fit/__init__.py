"""Whether a model fits a TPU, with how many slots, and how fast it can be: the compiler's answer.

Layer 4. Free of jax: another process compiles (`rgpipeline.engine.programs.compiling`), and this
package reads the text that it writes.
"""

from rgpipeline.fit.estimate import FitRequest, fit
from rgpipeline.fit.fit_report import FitReport
from rgpipeline.fit.job_estimate import JobEstimate, fit_job

__all__ = ["FitReport", "FitRequest", "JobEstimate", "fit", "fit_job"]
