"""The job file: YAML and overrides to a `Job`, every fault told at once.

Layer 2. Imports spec, errors and text: `job.yaml: sampling.temprature: unknown key; did you mean
'temperature'?`
"""

from rgpipeline.jobfile.faults import spec_faults
from rgpipeline.jobfile.load import load_job, parse_job

__all__ = ["load_job", "parse_job", "spec_faults"]
