"""Speed, side by side: this engine, the official sampler, Hugging Face, and the machine's limit.

`python -m bench --help`. Imports `rgpipeline`; nothing in `rgpipeline` imports this.
"""
