"""Rows that must follow grammars."""

from collections.abc import Iterator

from bench.grammars import constrained_rows, constraints
from bench.model import CONFIGS, model_folder
from bench.peer_set import PeerSet
from bench.peers.exchange import Setup
from bench.processes import Process
from bench.report import Line, Result
from bench.vocabulary import write_tokenizer

ROUNDS = 3


def measure(peers: PeerSet) -> Result:
    """Rows with grammars, compared with rows of the same lengths without any."""
    name = "tiny" if peers.quick else "256k"
    model, vocab = model_folder(name, peers.out), CONFIGS[name].vocab_size
    write_tokenizer(model, vocab)
    setup = Setup("float32", 4 if peers.quick else 64)
    found = {}
    with Process("bench.peers.constrained", model, peers.out) as process:
        for label, grammars in constraints(setup.batch).items():
            rows = [(row.prompt, row.new) for row in constrained_rows(vocab, len(grammars))]
            process.run(setup, [rows[:1]], structured=grammars[:1])  # compiles, as does the next
            process.run(setup, [rows[:1]])
            turns = []
            for _ in range(1 if peers.quick else ROUNDS):
                bound = process.run(setup, [rows], structured=grammars)
                same = [
                    (prompt, max(1, len(tokens)))
                    for (prompt, _), tokens in zip(rows, bound.tokens, strict=True)
                ]
                turns.append((bound, process.run(setup, [same])))
            tokens = sum(map(len, bound.tokens))
            bound_s, free_s = (
                min(run.seconds for run in runs) for runs in zip(*turns, strict=True)
            )
            found[label] = {
                "rows": len(rows),
                "tokens": tokens,
                "tokens_per_s": tokens / bound_s,
                "free_tokens_per_s": tokens / free_s,
                "of_free": free_s / bound_s,
            }
    return {"vocabulary": vocab, "slots": setup.batch, "grammars": found}


def lines(result: Result) -> Iterator[Line]:
    """A line for each kind of grammars: its rate, and the rate without any."""
    for label, run in result["grammars"].items():
        bound, free = run["tokens_per_s"], run["free_tokens_per_s"]
        yield label, f"{bound:,.0f} / {free:,.0f} tok/s without = {run['of_free']:.3f}"
