"""Opening what a Generator works with: engine, tokenizer, chat template."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from rgpipeline.engine.activity import Activity
from rgpipeline.engine.factory import OpenedEngine, open_engine, use_compilation_cache
from rgpipeline.generator.options import IN_PYTHON
from rgpipeline.generator.requests import RequestMaker
from rgpipeline.generator.shared_loop import SharedLoop
from rgpipeline.spec import EngineSpec, MeshSpec, ModelSpec
from rgpipeline.storage.filesystems import resolve_options
from rgpipeline.storage.reachable import check_reachable
from rgpipeline.text.chat import ChatTemplate
from rgpipeline.text.tokenizer import Tokenizer
from rgpipeline.wording import said_as

CACHE = Path.home() / ".cache" / "rgpipeline" / "programs"

StorageOptions = Mapping[str, Mapping[str, Any]]


def open_model(
    model: ModelSpec,
    engine: EngineSpec,
    *,
    mesh: MeshSpec | None,
    storage_options: StorageOptions | None,
    cache: Path | None,
    activity: Activity,
) -> tuple[OpenedEngine, RequestMaker]:
    """The engine of a model, and what makes requests for it. Raises as `Generator.load` does."""
    options = resolve_options(storage_options)
    check_reachable(model.addresses, options)
    with said_as(IN_PYTHON):
        tokenizer = _open_tokenizer(model, options)
    use_compilation_cache(CACHE)
    opened = open_engine(model, engine, options, mesh=mesh, cache=cache, activity=activity)
    if tokenizer is not None and model.tokenizer is None:
        with said_as(IN_PYTHON):
            tokenizer.require_within(opened.loop.vocab_size)
    open_chat = partial(_open_chat, model, options)
    return opened, RequestMaker(SharedLoop(opened.loop), tokenizer, open_chat)


def _open_tokenizer(model: ModelSpec, options: StorageOptions) -> Tokenizer | None:
    """The tokenizer named, or the one beside the weights, if there is one."""
    if model.tokenizer is not None:
        return Tokenizer.load(model.tokenizer, options)
    return Tokenizer.find(model.weights, options)


def _open_chat(model: ModelSpec, options: StorageOptions, tokenizer: Tokenizer) -> ChatTemplate:
    with said_as(IN_PYTHON):
        return ChatTemplate.load(
            model.weights,
            tokenizer,
            options,
            template=model.chat_template,
            tokenizer_url=model.tokenizer,
        )
