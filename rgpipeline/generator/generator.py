"""The calls to a model in this process."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import overload

import numpy as np
from numpy.typing import NDArray

from rgpipeline.engine.text_requests import Pooling
from rgpipeline.errors import RowError
from rgpipeline.generator.arguments import Prompt, SamplingLike, several_prompts
from rgpipeline.generator.calls import Watch, completion_scores, read_texts, scores, watch_for
from rgpipeline.generator.loaded_model import LoadedModel
from rgpipeline.generator.request_maker import Messages, Samplings, Tools
from rgpipeline.generator.running_sequence import Completion
from rgpipeline.generator.scored_texts import completed_texts, prompt_texts
from rgpipeline.generator.state import State
from rgpipeline.jobfile.spec_faults import section
from rgpipeline.spec import Sampling
from rgpipeline.spec.job_spec import EmbedSpec
from rgpipeline.tasks.embed_task import embedding
from rgpipeline.tasks.score_task import Score

States = State | Sequence[State | None] | None


class Generator(LoadedModel):
    """A model on this process's devices, ready to continue prompts.

    Any number of threads may use it at once: their sequences share the slots. It belongs to the
    process that loaded it; after a fork, or once closed, it raises UserError.
    """

    def generate(
        self,
        prompts: Sequence[Prompt],
        sampling: Samplings = None,
        ids: Sequence[str] | None = None,
        *,
        from_state: States = None,
        keep_state: bool = False,
        prompt_logprobs: bool = False,
        progress: bool | Watch = False,
    ) -> list[Completion]:
        """Continues every prompt.

        Args:
          prompts: texts (BOS is put before them) or lists of token ids, taken as they are; also
            an array, or a column of Arrow, pandas or polars, of either.
          sampling: one for all, or one for each prompt; keys as in a job file's `sampling:`.
          ids: names of the rows, which seed the random bits; default: each prompt's index.
          from_state: what the prompts follow, one for all or one for each; texts get no BOS then.
          keep_state: give each completion its `state`.
          prompt_logprobs: also return the prompts' log-probabilities, which are computed first.
          progress: True shows it on stderr; a function is called with a `Progress` at each step.

        Returns:
          Completions in the order of the prompts; with `n` > 1, all samples of a prompt follow
          each other.

        Raises RowError naming a prompt by its index, where nothing was generated; UserError for
        sampling options that are not valid.
        """
        requests = self._requests.prompts(prompts, sampling, ids, from_state, keep_state)
        return self._run.all(requests, prompt_logprobs, progress)

    def generate_iter(
        self,
        prompts: Sequence[Prompt],
        sampling: Samplings = None,
        ids: Sequence[str] | None = None,
        *,
        from_state: States = None,
        keep_state: bool = False,
        prompt_logprobs: bool = False,
    ) -> Iterator[tuple[int, Completion]]:
        """As `generate`, but yields each completion as soon as it is finished, with its index.

        The index is that in `generate`'s list. Closing the iterator cancels unfinished sequences.
        """
        requests = self._requests.prompts(prompts, sampling, ids, from_state, keep_state)
        return self._run.as_completed(requests, prompt_logprobs)

    def chat(
        self,
        messages: Messages | Sequence[Messages],
        sampling: Samplings = None,
        ids: Sequence[str] | None = None,
        *,
        tools: Tools = None,
        from_state: States = None,
        keep_state: bool = False,
        prompt_logprobs: bool = False,
        progress: bool | Watch = False,
    ) -> list[Completion]:
        """Answers one conversation, or each of a list of them.

        `messages` are dicts of `role` and `content`, as in the job file's `messages` column;
        `tools` are those that the model may call, in all of them. The answer ends where the model
        ends its turn. Otherwise as `generate`; one conversation gives a list of one completion.
        After a `state` of an earlier answer, `messages` are the next turn alone.
        Raises RowError naming conversation, message and field; WeightsError without a template.
        """
        requests = self._requests.chats(messages, sampling, ids, tools, from_state, keep_state)
        return self._run.all(requests, prompt_logprobs, progress)

    def stream(
        self,
        prompt: Prompt,
        sampling: SamplingLike | None = None,
        row_id: str = "0",
        *,
        from_state: State | None = None,
    ) -> Iterator[str]:
        """Pieces of one completion's text as they come, without a limit of length.

        Memory stays constant. Closing the iterator frees the slot. Raises as `generate` does.
        """
        return self._run.stream(self._requests.prompts([prompt], sampling, [row_id], from_state))

    def read(
        self, prompt: Prompt, *, from_state: State | None = None, progress: bool | Watch = False
    ) -> State:
        """Reads a prompt once, for any number of calls with `from_state`.

        What follows it gets the same bits as if all had been one prompt. Raises as `generate` does.
        """
        only = Sampling(max_tokens=0)
        requests = self._requests.prompts([prompt], only, None, from_state, keep=True)
        state = self._run.all(requests, False, progress)[0].state
        assert state is not None, "the request asks for it"
        return state

    def stream_chat(
        self,
        messages: Messages,
        sampling: SamplingLike | None = None,
        row_id: str = "0",
        *,
        tools: Tools = None,
    ) -> Iterator[str]:
        """As `stream`, for the answer to one conversation with these `tools`."""
        return self._run.stream(self._requests.chats([messages], sampling, [row_id], tools))

    @overload
    def score(
        self,
        prompts: Sequence[Prompt],
        *,
        from_state: States = None,
        progress: bool | Watch = False,
    ) -> list[NDArray[np.float32]]: ...

    @overload
    def score(  # type: ignore[overload-overlap]  # a text is a sequence of texts, too
        self,
        prompts: Sequence[Prompt],
        completions: Sequence[Prompt],
        *,
        from_state: States = None,
        progress: bool | Watch = False,
    ) -> list[Score]: ...

    @overload
    def score(
        self,
        prompts: Sequence[Prompt],
        completions: Sequence[Sequence[Prompt]],
        *,
        from_state: States = None,
        progress: bool | Watch = False,
    ) -> list[list[Score]]: ...

    def score(
        self,
        prompts: Sequence[Prompt],
        completions: Sequence[Prompt] | Sequence[Sequence[Prompt]] | None = None,
        *,
        from_state: States = None,
        progress: bool | Watch = False,
    ) -> list[NDArray[np.float32]] | list[Score] | list[list[Score]]:
        """Scores of prompts, or of completions given their prompts.

        Args:
          prompts: as for `generate`.
          completions: for each prompt a text, or a list of texts; or token ids in place of a text.
            A text's tokens are those of the text alone, without BOS, put after the prompt's. Each
            prompt is read once; scores have the bits of pairs scored one by one.
          from_state: as for `generate`; scores have the bits that they have in one whole text.
          progress: as for `generate`.

        Returns:
          Without completions the log-probability of each token given those before it, float32
          [len - 1] each, or [len] after a state. With them a `Score` for each text, in a list where
          a list was given.

        Raises RowError naming a prompt by its index; UserError for other mistakes.
        """
        watch = watch_for(progress)
        if completions is None:
            return scores(self._loop, prompt_texts(self._requests, prompts, from_state), watch)
        given = list(completions)
        texts = completed_texts(self._requests, prompts, given, from_state)
        found = completion_scores(self._loop, texts, watch)
        single = [several_prompts(one) is None for one in given]
        return [s[0] if one else s for s, one in zip(found, single, strict=True)]  # type: ignore[return-value]

    def embed(
        self,
        prompts: Sequence[Prompt],
        pooling: Pooling = "mean",
        normalize: bool = True,
        *,
        progress: bool | Watch = False,
    ) -> NDArray[np.float32]:
        """Embeddings of prompts, float32 [n, width].

        Args:
          prompts: as for `generate`.
          pooling: over the final hidden values of all tokens (after the final norm): their `mean`,
            or the `last` token's.
          normalize: divide each embedding by its Euclidean norm.
          progress: as for `generate`.

        Raises RowError naming a prompt by its index; UserError for other mistakes.
        """
        embed = section(EmbedSpec, "embed", pooling=pooling, normalize=normalize)
        texts = prompt_texts(self._requests, prompts)
        requests = [replace(t, first=len(t.tokens), pooling=embed.pooling) for t in texts]
        found = np.zeros((len(texts), self._loop.opened().width), np.float32)
        for index, one in enumerate(read_texts(self._loop, requests, watch_for(progress))):
            try:
                found[index] = embedding(one, normalize=embed.normalize)
            except RowError as error:
                raise RowError(f"prompt {index}: {error}") from None
        return found
