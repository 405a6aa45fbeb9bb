"""Makes token ids of prompt texts: which begin with BOS, and what their control tokens are."""

from collections.abc import Sequence
from functools import cached_property

from rgpipeline.errors import RowError
from rgpipeline.spec import SpecialTokens
from rgpipeline.text.control_tokens import ControlTokens, encode_spelled, not_read, pieces
from rgpipeline.text.tokenizer import Tokenizer

Part = tuple[str, bool]  # a text, and whether it is a user's


class TextReader:
    """Reads the texts of a job, by its `input.special_tokens` and `input.bos`.

    - auto: a text spells those control tokens that the tokenizer's file looks for.
    - parse: it spells all of them, BOS and EOS, too.
    - text: users' texts spell none, the job's own text (`input.template`) all of them.
    """

    def __init__(
        self, tokenizer: Tokenizer, special_tokens: SpecialTokens = "auto", *, bos: bool = True
    ) -> None:
        """`bos`: whether BOS is put before a text that doesn't begin with it."""
        self.tokenizer, self.special_tokens, self._bos = tokenizer, special_tokens, bos

    def read(self, text: str, *, bos: bool = True) -> list[int]:
        """The ids of a user's text, after BOS unless `bos` is false. Raises RowError."""
        if not isinstance(text, str):
            raise RowError(f"text is expected, found {type(text).__name__}")
        return self.read_parts([(text, True)], bos=bos)

    def read_parts(self, parts: Sequence[Part], *, bos: bool = True) -> list[int]:
        """As `read`, for a text of the job's own parts and users' texts."""
        text, bos = "".join(part for part, _ in parts), bos and self._bos
        if self.special_tokens == "auto":
            return self.tokenizer.encode(text, bos=bos)
        cuts = [] if self.special_tokens == "parse" else self._control.cuts(parts)
        ids = encode_spelled(self.tokenizer, pieces(text, cuts), self._unread)
        return self.with_bos(ids) if bos else ids

    def with_bos(self, ids: list[int]) -> list[int]:
        """`ids` with one BOS at their beginning, if the job wants one there."""
        bos = self.tokenizer.bos_id
        return ids if not self._bos or ids[:1] == [bos] else [bos, *ids]

    def require_tokens(self, ids: list[int]) -> list[int]:
        """`ids`. Raises RowError if there are none: a text without BOS may be empty."""
        if not ids:
            raise RowError("the prompt is empty; without a BOS, it needs at least one token")
        return ids

    @cached_property
    def _control(self) -> ControlTokens:
        return ControlTokens(self.tokenizer.control_tokens())

    @cached_property
    def _unread(self) -> dict[str, int]:
        return not_read(self.tokenizer, self.tokenizer.control_tokens())
