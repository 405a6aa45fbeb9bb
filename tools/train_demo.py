"""Trains the demo model that ships inside the package, and writes its card and prompts.

    python -m tools.train_demo [--steps N] [--out rgpipeline/demo]

A small Griffin learns the King James Bible: about half an hour on two cores. Everything is seeded.
Its text runs on as one stream from which 16 readers each take a stretch, and a reader's state goes
on from step to step: so the recurrence sees sequences far longer than a step, as it will when it
generates without end.
"""

import argparse
import io
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import optax
import pyarrow as pa
import pyarrow.parquet as pq
import sentencepiece as spm
from numpy.typing import NDArray

from rgpipeline.model.config import GRIFFIN_CYCLE, GriffinConfig, cycle
from rgpipeline.model.griffin_state import GriffinState, init_state
from rgpipeline.model.layers.griffin import Griffin
from rgpipeline.model.params import random_params
from rgpipeline.model.weights.hf_layout import save
from tools.card import Losses, write_card
from tools.kjv import Chapter, passages, read_chapters, split
from tools.ngram import NGram

SEED = 20_240
CONFIG = GriffinConfig(
    vocab_size=2048,
    width=192,
    mlp_width=512,
    heads=4,
    lru_width=192,
    block_types=cycle(GRIFFIN_CYCLE, 6),
    window=128,
)
READERS, STRETCH = 16, 256
VERSES = 8.0  # a passage's on average
HELD_OUT = 0.04
PROMPTS, WORDS = 320, 6
PEAK_RATE, WARM_UP = 3e-3, 100

Params = Any


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=1600)
    parser.add_argument("--out", type=Path, default=Path("rgpipeline/demo"))
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    training, held_out = split(read_chapters(), HELD_OUT, SEED)
    tokenizer = train_tokenizer(training, args.out / "tokenizer.model")
    write_prompts(held_out, args.out / "prompts.parquet")
    held_out_ids = encode(tokenizer, held_out, np.random.default_rng(SEED))
    params = random_params(CONFIG, SEED, jnp.float32)
    started = time.monotonic()
    for step, trained in train(params, tokenizer, training, args.steps):
        if step % 200 == 0 or step == args.steps:
            loss = held_out_loss(trained, held_out_ids)
            minutes = (time.monotonic() - started) / 60
            print(f"step {step}: held-out loss {loss:.4f}, {minutes:.1f} minutes", flush=True)
            save(args.out, CONFIG, trained, ml_dtypes.bfloat16)
    rounded = jax.tree.map(lambda p: p.astype(jnp.bfloat16).astype(jnp.float32), trained)
    text = encode(tokenizer, training, np.random.default_rng(SEED))
    bytes_held_out = len("\n".join(passages(held_out, np.random.default_rng(SEED), VERSES)))
    losses = Losses(
        model=held_out_loss(rounded, held_out_ids),
        baselines={
            f"{name} of the same tokens": ngram_loss(order, text, held_out_ids)
            for order, name in ((1, "unigram"), (3, "3-gram"), (4, "4-gram"))
        },
        tokens=len(held_out_ids) - 1,
        text_bytes=bytes_held_out,
    )
    write_card(args.out / "README.md", CONFIG, trained, losses, args.steps, READERS * STRETCH)


def train_tokenizer(chapters: list[Chapter], path: Path) -> spm.SentencePieceProcessor:
    """A small BPE with Gemma's special tokens, byte fallback, and a piece for the line break."""
    model = io.BytesIO()
    spm.SentencePieceTrainer.train(
        sentence_iterator=(verse.text for chapter in chapters for verse in chapter),
        model_writer=model,
        model_type="bpe",
        vocab_size=CONFIG.vocab_size,
        byte_fallback=True,
        split_digits=True,
        pad_id=CONFIG.pad_id,
        eos_id=CONFIG.eos_ids[0],
        bos_id=CONFIG.bos_id,
        unk_id=3,
        pad_piece="<pad>",
        eos_piece="<eos>",
        bos_piece="<bos>",
        unk_piece="<unk>",
        user_defined_symbols=["<start_of_turn>", "<end_of_turn>", "\n"],
        add_dummy_prefix=False,
        remove_extra_whitespaces=False,
        normalization_rule_name="identity",
        minloglevel=2,
    )
    path.write_bytes(model.getvalue())
    return spm.SentencePieceProcessor(model_proto=model.getvalue())


def write_prompts(held_out: list[Chapter], path: Path) -> None:
    """Openings of held-out verses, and the verses to compare with."""
    long_enough = [v for chapter in held_out for v in chapter if len(v.text.split()) > WORDS + 4]
    chosen = np.random.default_rng(SEED).choice(len(long_enough), PROMPTS, replace=False)
    verses = [long_enough[index] for index in sorted(chosen)]
    columns = {
        "id": [verse.reference for verse in verses],
        "book": [verse.book for verse in verses],
        "prompt": [" ".join(verse.text.split()[:WORDS]) for verse in verses],
        "verse": [verse.text for verse in verses],
    }
    pq.write_table(pa.table(columns), path, compression="zstd")


def encode(
    tokenizer: spm.SentencePieceProcessor, chapters: list[Chapter], rng: np.random.Generator
) -> NDArray[np.int32]:
    """One stream of passages, each between BOS and EOS."""
    ids: list[int] = []
    for passage in passages(chapters, rng, VERSES):
        ids += [CONFIG.bos_id, *tokenizer.encode(passage), CONFIG.eos_ids[0]]
    return np.asarray(ids, np.int32)


def stretches(
    tokenizer: spm.SentencePieceProcessor, chapters: list[Chapter]
) -> Iterator[NDArray[np.int32]]:
    """int32 [readers, stretch + 1], without end: neighbours share a token, epochs are shuffled."""
    rng = np.random.default_rng(SEED)
    while True:
        order = [chapters[index] for index in rng.permutation(len(chapters))]
        ids = encode(tokenizer, order, rng)
        count = (len(ids) - 1) // (READERS * STRETCH)
        own = count * STRETCH
        starts = np.arange(READERS) * own
        for step in range(count):
            at = starts[:, None] + step * STRETCH + np.arange(STRETCH + 1)
            yield ids[at]


def train(
    params: Params, tokenizer: spm.SentencePieceProcessor, chapters: list[Chapter], steps: int
) -> Iterator[tuple[int, Params]]:
    """(step, parameters) after every step: AdamW with a warm-up and a cosine decay."""
    rate = optax.warmup_cosine_decay_schedule(
        0.0, PEAK_RATE, min(WARM_UP, steps // 4), steps, PEAK_RATE / 20
    )
    optimizer = optax.chain(
        optax.clip_by_global_norm(1.0),
        optax.adamw(rate, b2=0.98, weight_decay=0.3, mask=_matrices),
    )
    update = jax.jit(partial(_update, optimizer), donate_argnums=(0, 1, 2))
    moments, state = optimizer.init(params), init_state(CONFIG, READERS, jnp.float32)
    batches = stretches(tokenizer, chapters)
    for step in range(1, steps + 1):
        params, moments, state = update(params, moments, state, next(batches))
        yield step, params


def held_out_loss(params: Params, ids: NDArray[np.int32]) -> float:
    """Mean nats of every token but the first, given all those before it."""
    state, total = init_state(CONFIG, 1, jnp.float32), 0.0
    for start in range(0, len(ids) - 1, STRETCH):
        inputs, targets = ids[:-1][start : start + STRETCH], ids[1:][start : start + STRETCH]
        padded = np.zeros((2, 1, STRETCH), np.int32)
        padded[0, 0, : len(inputs)], padded[1, 0, : len(targets)] = inputs, targets
        losses, state = _evaluate(
            params, state, padded[0], padded[1], np.asarray([len(inputs)], np.int32)
        )
        total += float(losses[0, : len(targets)].sum())
    return total / (len(ids) - 1)


def ngram_loss(order: int, text: NDArray[np.int32], held_out: NDArray[np.int32]) -> float:
    """Loss of an n-gram model of the training text."""
    model = NGram(order, CONFIG.vocab_size)
    model.train(text.tolist())
    return model.loss(held_out.tolist())


def _losses(
    params: Params, state: GriffinState, tokens: jax.Array, targets: jax.Array, lengths: jax.Array
) -> tuple[jax.Array, GriffinState]:
    model = Griffin(CONFIG)
    read: Any = model.apply({"params": params}, tokens, lengths, state, method="prefill")
    hidden, after = read
    logits = model.apply({"params": params}, hidden, method="logits")
    return optax.softmax_cross_entropy_with_integer_labels(logits, targets), after


_evaluate = jax.jit(_losses)


def _update(
    optimizer: optax.GradientTransformation,
    params: Params,
    moments: Any,
    state: GriffinState,
    batch: jax.Array,
) -> tuple[Params, Any, GriffinState]:
    def loss(params: Params) -> tuple[jax.Array, GriffinState]:
        lengths = jnp.full((READERS,), STRETCH, jnp.int32)
        losses, after = _losses(params, state, batch[:, :-1], batch[:, 1:], lengths)
        return losses.mean(), after

    (_, after), gradients = jax.value_and_grad(loss, has_aux=True)(params)
    updates, moments = optimizer.update(gradients, moments, params)
    return optax.apply_updates(params, updates), moments, after


def _matrices(params: Params) -> Any:
    """What weight decay applies to."""
    return jax.tree.map(lambda leaf: leaf.ndim > 1, params)


if __name__ == "__main__":
    main()
