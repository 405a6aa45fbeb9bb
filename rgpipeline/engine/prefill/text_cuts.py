"""How texts that are read once are cut, and what they share.

A text to score is cut in two before its first scored token, at a multiple of the shortest chunk.
Nothing in the first part is scored, so all texts with the same prompt share it. Each part is then
cut as a prompt is (see `queues`). So the cut, and with it every bit, depends on the text and its
first scored token alone.

    0 ........ split .... first - 1 | first ............. n - 1
    first part | second part                              (the last token is only a target)

Completions of one prompt are texts with one split: the first of them reads up to it, the others
start from a copy of its state. A text that continues a read one begins at the end of a whole chunk
of it, so it is cut as the two are in one. A text to pool is cut as a prompt is, to its last token.
"""

from rgpipeline.engine.prefill.kept_reads import start_of
from rgpipeline.engine.prefill.prefixes import Prefix, chunk_prefixes, digests
from rgpipeline.engine.text_requests import TextRequest


def results_of(text: TextRequest) -> int:
    """Tokens of a text that have a result."""
    return len(text.tokens) if text.pooling else max(0, len(text.tokens) - text.first)


def split_of(text: TextRequest, shortest: int) -> int:
    """The token at which a text's second part begins; `shortest`: tokens of the shortest chunk."""
    return 0 if text.pooling else (text.first - 1) // shortest * shortest


def prefixes_of(text: TextRequest, chunk: int, shortest: int) -> list[Prefix]:
    """The prefixes of a text that another text may share, shortest first.

    In the second part, a prefix stands for its scores too. They depend on the first scored token,
    and on the token after the prefix, which is the prefix's last target. Of a text to pool, a
    prefix stands for its sum. The end of what a text continues is a prefix of no tokens.
    """
    tokens, split, after = text.tokens, split_of(text, shortest), start_of(text.start)
    if text.pooling:
        ends = list(range(chunk, len(tokens), chunk))
        kind = text.pooling.encode()
        return [
            (end, digest + kind) for end, digest in zip(ends, digests(tokens, ends), strict=True)
        ]
    prefixes = [(0, after)] if after else []
    prefixes += chunk_prefixes(tokens[:split], chunk, after)
    ends = list(range(split + chunk, len(tokens) - 1, chunk))
    scored = digests(tokens, [end + 1 for end in ends], after)
    first = text.first.to_bytes(8, "little")
    return prefixes + [(end, digest + first) for end, digest in zip(ends, scored, strict=True)]
