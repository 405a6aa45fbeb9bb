"""Runs the requests of one call, and hands on what comes of them."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rgpipeline.engine.text_requests import TextRequest
from rgpipeline.errors import UserError
from rgpipeline.generator.calls import Watch, completions, pieces, scores, watch_for
from rgpipeline.generator.request_maker import RequestMaker
from rgpipeline.generator.running_sequence import Completion
from rgpipeline.records import Request


@dataclass(frozen=True, slots=True)
class RequestRunner:
    """Runs requests that `maker` has made. `prompt_logprobs`: see `Generator.generate`."""

    maker: RequestMaker

    def all(
        self, requests: list[Request], prompt_logprobs: bool, progress: bool | Watch
    ) -> list[Completion]:
        """Their completions, in order."""
        watch = watch_for(progress)
        found = dict(self.as_completed(requests, prompt_logprobs, watch))
        return [found[index] for index in range(len(requests))]

    def as_completed(
        self, requests: list[Request], prompt_logprobs: bool, watch: Watch = lambda _: None
    ) -> Iterator[tuple[int, Completion]]:
        """Each completion as soon as it is finished, with its index."""
        scored: Mapping[Any, NDArray[np.float32]] = {}
        loop = self.maker.loop
        if prompt_logprobs:
            if any(request.start is not None for request in requests):
                raise UserError("prompt_logprobs: not of prompts that continue a state; leave it")
            texts = {one.key: TextRequest(one.key, one.tokens) for one in requests}
            scored = dict(zip(texts, scores(loop, list(texts.values())), strict=True))
        for index, done in completions(loop, self.maker.tokenizer, requests, watch):
            yield index, done.with_prompt(scored.get(requests[index].key))

    def stream(self, requests: list[Request]) -> Iterator[str]:
        """Pieces of the text of the one request."""
        tokenizer = self.maker.require_reader("streaming text").tokenizer
        if len(requests) > 1:
            raise UserError("sampling.n: a stream is one sample; use generate for more")
        return pieces(self.maker.loop, tokenizer, requests[0])
