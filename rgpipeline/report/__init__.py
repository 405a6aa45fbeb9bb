"""A report of a job as one HTML page, from its output folder and event log alone.

Layer 4. Imports output and plan; free of jax and Ray. The page needs no network.
"""

from rgpipeline.report.page import render_report, write_report

__all__ = ["render_report", "write_report"]
