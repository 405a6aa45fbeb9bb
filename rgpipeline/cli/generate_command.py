"""`rgpipeline generate`: one prompt, streamed to the terminal."""

import sys
import time
from collections.abc import Mapping
from typing import Annotated, Any

import typer

from rgpipeline.cli.shared_options import one_of
from rgpipeline.errors import UserError
from rgpipeline.wording import count, duration, said_as

# Beyond this many tokens, `--ignore-eos` is the default: no model writes so much by itself.
_LONG = 4096
_AS_OPTIONS = {
    "adapter=": "--adapter",
    "base=": "--base",
    "chat_template=": "--chat-template",
    "tokenizer=": "--tokenizer",
}


def generate(
    prompt: Annotated[
        str, typer.Argument(help="What to continue; - reads it from stdin.", metavar="PROMPT")
    ],
    model: Annotated[
        str,
        typer.Option(
            "--model", "-m", help="Checkpoint folder (a path or any fsspec URL), or demo."
        ),
    ],
    adapter: Annotated[
        str | None, typer.Option("--adapter", help="A LoRA adapter's folder, merged into MODEL.")
    ] = None,
    base: Annotated[
        str | None,
        typer.Option(
            "--base",
            help="If MODEL is an adapter's folder: its base; default: the one that it names.",
        ),
    ] = None,
    max_tokens: Annotated[
        int, typer.Option("--max-tokens", min=0, help="0: until the model or you stop it.")
    ] = 256,
    temperature: Annotated[float, typer.Option("--temperature", help="0 is greedy.")] = 1.0,
    top_k: Annotated[int, typer.Option("--top-k", help="0 keeps all.")] = 0,
    top_p: Annotated[float, typer.Option("--top-p")] = 1.0,
    seed: Annotated[int, typer.Option("--seed", help="Another seed, another text.")] = 0,
    stop: Annotated[
        list[str] | None, typer.Option("--stop", help="A string that ends the text; repeatable.")
    ] = None,
    ignore_eos: Annotated[
        bool | None,
        typer.Option(
            "--ignore-eos/--stop-at-eos",
            help="Go on after the end-of-sequence token; the default beyond 4,096 tokens.",
            show_default=False,
        ),
    ] = None,
    tokenizer: Annotated[
        str | None,
        typer.Option(
            "--tokenizer", help="Default: tokenizer.model or tokenizer.json beside the model."
        ),
    ] = None,
    chat_template: Annotated[
        str | None,
        typer.Option(
            "--chat-template", help="With --chat: a Jinja template's file; default: the model's."
        ),
    ] = None,
    dtype: Annotated[
        str, typer.Option("--dtype", metavar="auto|float32|bfloat16", help="Of weights and state.")
    ] = "auto",
    quantize: Annotated[
        str, typer.Option("--quantize", metavar="none|int8", help="int8 halves weights and state.")
    ] = "none",
    chat: Annotated[
        bool, typer.Option("--chat", help="PROMPT is a user's message; the model answers it.")
    ] = False,
    echo: Annotated[bool, typer.Option("--echo", help="Print the prompt first.")] = False,
) -> int:
    """Continue one prompt; the text streams to the terminal as it comes. Ctrl-C ends it.

    \b
    Examples:
      rgpipeline generate --model demo "In the beginning"
      rgpipeline generate --model demo "And it came to pass" --max-tokens 20000
      echo "Blessed are" | rgpipeline generate --model demo - --temperature 0
      rgpipeline generate --model weights/2b-it --chat "Why is the sky blue?"

    Memory stays constant however long the text grows. The same seed gives the same text.
    """
    sampling: dict[str, Any] = {
        "max_tokens": max_tokens or None,
        "temperature": temperature,
        "top_k": top_k,
        "top_p": top_p,
        "seed": seed,
        "stop": stop or (),
        "ignore_eos": max_tokens > _LONG if ignore_eos is None else ignore_eos,
    }
    text = sys.stdin.read() if prompt == "-" else prompt
    if not text:
        raise UserError("the prompt is empty; give some text to continue")
    if chat_template is not None and not chat:
        raise UserError("--chat-template is for chats; give --chat, too")
    options = {
        "adapter": adapter,
        "base": base,
        "tokenizer": tokenizer,
        "chat_template": chat_template,
        "dtype": one_of("--dtype", dtype, ("auto", "float32", "bfloat16")),
        "quantize": one_of("--quantize", quantize, ("none", "int8")),
    }
    with said_as(_AS_OPTIONS):
        _print(text, model, options, sampling, chat=chat, echo=echo)
    return 0


def _print(
    text: str,
    model: str,
    options: Mapping[str, Any],
    sampling: Mapping[str, Any],
    *,
    chat: bool,
    echo: bool,
) -> None:
    from rgpipeline.generator import Generator
    from rgpipeline.generator.calls import StageLines

    stages = StageLines(sys.stderr)
    with Generator.load(model, **options, slots=1, progress=stages) as generator:
        if echo:
            typer.echo(text, nl=False)
        begun, characters = time.monotonic(), 0
        if chat:
            stream = generator.stream_chat([{"role": "user", "content": text}], sampling)
        else:
            stream = generator.stream(text, sampling)
        for piece in stream:
            stages.stop()  # or a line would come amid the text
            characters += len(piece)
            sys.stdout.write(piece)
            sys.stdout.flush()
        sys.stdout.write("\n")
    if sys.stderr.isatty():
        took = time.monotonic() - begun
        typer.echo(f"({count(characters)} characters in {duration(took)})", err=True)
