"""What to know where a model and its tokenizer have different numbers of tokens."""

from rgpipeline.text.tokenizer import Tokenizer


def size_note(tokenizer: Tokenizer, vocab_size: int) -> str:
    """One line about the difference to a model of `vocab_size` tokens; empty if there is none.

    More in the model is common: embeddings are padded to a multiple. More in the tokenizer is an
    error where it reads texts (`Tokenizer.require_within`), except for padding and masks.
    """
    more = vocab_size - tokenizer.vocab_size
    if not more:
        return ""
    sizes = f"the model has {vocab_size:,} tokens, its tokenizer {tokenizer.vocab_size:,}"
    if more < 0:
        first = tokenizer.piece(vocab_size)
        return (
            f"{sizes}: no text may spell the others, such as {first!r}; a row that does fails. If "
            f"they are not for padding or masks, name the model's own tokenizer as model.tokenizer"
        )
    text = tokenizer.decode([tokenizer.vocab_size])
    read = f"read {text!r}" if text else "have no text"
    return (
        f"{sizes}: ids from {tokenizer.vocab_size:,} on {read} in completions. If they do not just "
        f"pad the embedding, name the model's own tokenizer as model.tokenizer"
    )
