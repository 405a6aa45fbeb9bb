"""Opens what a worker needs: engine, tokenizer, prompts."""

from typing import Any, Protocol

from rgpipeline.engine.loop import Loop
from rgpipeline.errors import JobError, RowError, WeightsError
from rgpipeline.model.weights.model_source import ModelSource
from rgpipeline.plan import Plan, record_settings, recorded_settings
from rgpipeline.records import ResolvedSettings
from rgpipeline.spec import EngineSpec, Job
from rgpipeline.storage.store import Store
from rgpipeline.tasks import task_of
from rgpipeline.tasks.row_prompts import Prompts, reads_texts
from rgpipeline.tasks.state_loader import StateLoader
from rgpipeline.text.chat import ChatTemplate
from rgpipeline.text.grammar_check import GrammarCheck
from rgpipeline.text.grammars import TextGrammars
from rgpipeline.text.prompt_template import PromptTemplate
from rgpipeline.text.text_reader import TextReader
from rgpipeline.text.tokenizer import Tokenizer


class Opened(Protocol):
    """A loop ready for requests, and its resolved settings."""

    @property
    def loop(self) -> Loop[Any, Any]: ...

    @property
    def settings(self) -> ResolvedSettings: ...


class EngineFactory(Protocol):
    """Opens an engine; `rgpipeline.engine.factory.open_engine` is the one with a model in it."""

    def __call__(
        self,
        source: ModelSource,
        engine: EngineSpec,
        resolved: ResolvedSettings | None = None,
        /,
    ) -> Opened: ...


def open_shared_engine(
    job: Job, source: ModelSource, store: Store, open_engine: EngineFactory
) -> Opened:
    """Opens an engine with the settings that all workers of the job share.

    The first worker's settings are recorded. If two workers come first at once, the later one
    opens its engine again.
    """
    mesh = job.workers.mesh
    known = recorded_settings(store, job.engine, mesh)
    opened = open_engine(source, job.engine, known)
    if known is not None:
        return opened
    agreed = record_settings(store, job.engine, opened.settings, mesh)
    if agreed == opened.settings:
        return opened
    del opened  # frees its memory
    return open_engine(source, job.engine, agreed)


def fit_together(loop: Loop[Any, Any], job: Job, prompts: Prompts) -> tuple[str, ...]:
    """Gives the loop what the job's rows need; returns warnings about model and tokenizer.

    Raises WeightsError if they don't go together, JobError if the job's grammar can't be used.
    """
    prompts.require_known_ids(loop.vocab_size)
    use_grammars(loop, job, prompts)
    return tuple(prompts.model_warnings(loop.vocab_size))


def use_grammars(loop: Loop[Any, Any], job: Job, prompts: Prompts) -> None:
    """Gives the loop what rows with `structured_outputs` need.

    Raises JobError if the job's own grammar can't be used.
    """
    if prompts.tokenizer is None:
        return
    grammars = TextGrammars(prompts.tokenizer, loop.vocab_size, loop.eos_ids, prompts.check)
    require_grammar(job, grammars)
    loop.use_grammars(grammars)


def require_grammar(job: Job, grammars: TextGrammars) -> None:
    """Compiles the job's own grammar, if it has one. Raises JobError."""
    if job.sampling.structured_outputs is not None:
        try:
            grammars.matcher(job.sampling.structured_outputs, [])
        except RowError as error:
            raise JobError(f"sampling.{error}") from error


def open_prompts(job: Job, plan: Plan, source: ModelSource) -> Prompts:
    """What makes prompts of a plan's rows. Raises WeightsError if the tokenizer can't be used."""
    tokenizer = None
    if _requires_tokenizer(job, plan):
        tokenizer = Tokenizer.load(source.tokenizer, source.options)
    elif task_of(job).writes_texts:
        tokenizer = Tokenizer.find(source.tokenizer, source.options)
    template = PromptTemplate(job.input.template) if job.input.template else None
    reader = None
    if tokenizer is not None:
        reader = TextReader(tokenizer, job.input.special_tokens, bos=job.input.bos)
    chat = _open_chat(source, reader, plan)
    requires_id = not plan.has_found_id(job)
    return Prompts(
        *(plan.columns, job.sampling, tokenizer, chat, template, requires_id, reader),
        states=StateLoader(source.options),
        keep_states=job.output.states is not None,
        keep_messages=job.output.messages,
        check=GrammarCheck(),
    )


def _requires_tokenizer(job: Job, plan: Plan) -> bool:
    """Whether a tokenizer is required: some text is read or written."""
    reads = reads_texts(plan.columns, job.input.template)
    writes = task_of(job).writes_texts and not job.output.token_ids
    sampling = job.sampling
    by_text = sampling.stop or sampling.structured_outputs
    return bool(reads or writes or by_text or job.model.tokenizer)


def _open_chat(source: ModelSource, reader: TextReader | None, plan: Plan) -> ChatTemplate | str:
    model = source.spec
    if plan.columns.messages is None and model.chat_template is not None:
        raise JobError(
            "model.chat_template: is for chats, and no column of messages is mapped; set "
            "input.columns.messages, or remove it"
        )
    if plan.columns.messages is None or reader is None:
        return "no messages column is mapped"
    try:
        return ChatTemplate.load(
            model.weights,
            reader.tokenizer,
            source.options,
            template=model.chat_template,
            tokenizer_url=source.tokenizer,
            now=plan.began,
            reader=reader,
        )
    except WeightsError as error:
        if plan.format != "openai-batch" or model.chat_template is not None:
            raise
        return str(error)  # a batch file may have no chats; rows with one get this as error
