"""Decode and prefill against the machine's limit: their matrix multiplies alone."""

from collections.abc import Iterator

from bench.peer_set import OURS, PeerSet
from bench.peers.exchange import Rates
from bench.planning import promising
from bench.report import Line, Result

ROUNDS = 2


def measure(peers: PeerSet) -> Result:
    """Decode and prefill, and in alternation their matrix multiplies alone.

    The limit is `x @ W.T`, the usual form; the fastest is the faster of that and `W @ x.T`. A dtype
    that is much slower than the other, as bfloat16 is without its instructions, is left out.
    """
    batch = 4 if peers.quick else 64
    rows = []
    for setup in promising(peers.process(OURS), batch):
        names = (OURS, "matmuls", "matmuls_transposed")
        turns = [
            [peers.process(name).measure(setup) for name in names]
            for _ in range(1 if peers.quick else ROUNDS)
        ]
        ours, plain, transposed = (_best([turn[i] for turn in turns]) for i in range(len(names)))
        fastest = _best([plain, transposed])
        rows.append(
            {
                "dtype": setup.dtype,
                "slots": batch,
                "decode_tokens_per_s": batch / ours.step_s,
                "decode_limit": batch / plain.step_s,
                "decode_of_limit": plain.step_s / ours.step_s,
                "decode_of_fastest": fastest.step_s / ours.step_s,
                "prefill_tokens_per_s": ours.prefill_tokens_per_s,
                "prefill_limit": plain.prefill_tokens_per_s,
                "prefill_of_limit": ours.prefill_tokens_per_s / plain.prefill_tokens_per_s,
                "prefill_of_fastest": ours.prefill_tokens_per_s / fastest.prefill_tokens_per_s,
            }
        )
    return {"rows": rows}


def _best(rates: list[Rates]) -> Rates:
    return Rates(
        max(rate.prefill_tokens_per_s for rate in rates), min(rate.step_s for rate in rates)
    )


def lines(result: Result) -> Iterator[Line]:
    """A line each for decode and prefill of each dtype."""
    for row in result["rows"]:
        for what in ("decode", "prefill"):
            rate, most, share = (
                row[f"{what}_{kind}"] for kind in ("tokens_per_s", "limit", "of_limit")
            )
            label = f"{what} {row['dtype']} {row['slots']} slots"
            fastest = row[f"{what}_of_fastest"]
            yield (
                label,
                f"{rate:,.0f} of {most:,.0f} tok/s = {share:.2f} ({fastest:.2f} of the fastest)",
            )
