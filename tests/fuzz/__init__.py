"""Files that nobody here wrote: every type in every column role, odd folders, damaged outputs.

`make test` tries a few examples of each; `make fuzz EXAMPLES=2000` tries many others.
"""
