"""The job file: makes a `Job` of YAML and overrides, and reports all faults at once.

Layer 2. Imports spec, errors and text: `job.yaml: sampling.temprature: unknown key; did you mean
'temperature'?`
"""

from rgpipeline.jobfile.job_grammar import with_schema
from rgpipeline.jobfile.loader import load_job, parse_job
from rgpipeline.jobfile.spec_faults import spec_faults

__all__ = ["load_job", "parse_job", "spec_faults", "with_schema"]
