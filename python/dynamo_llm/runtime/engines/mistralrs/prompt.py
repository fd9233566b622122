# SPDX-License-Identifier: Apache-2.0
"""Produces a prompt: its token ids, and a text that mistral.rs encodes as exactly those ids."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from dynamo_llm.errors import InvalidRequestError, NotSupportedError
from dynamo_llm.runtime.engines.mistralrs.templates import Templates
from dynamo_llm.runtime.pipeline.request_body import token_ids
from dynamo_llm.runtime.pipeline.tokenizer import Tokenizer


class Prompt(NamedTuple):
    """A prompt in both forms."""

    text: str
    """The text for mistral.rs. Its tokenizer adds nothing to it."""
    ids: list[int]
    """The token ids that the model reads."""
    images: tuple[str, ...] = ()
    """Images, as data URLs. The text has a marker for each; the ids have what mistral.rs replaces it by."""


class Prompts:
    """Produces the prompts of chats and completions.

    mistral.rs accepts only texts. Its tokenizer is the model's without the post-processor, so that the
    library decides which tokens (BOS, EOS) are added: none to a chat, whose template has already written
    them, and to a completion's text those that the model's files declare.
    """

    def __init__(self, tokenizer: Tokenizer, templates: Templates) -> None:
        self._tokenizer = tokenizer
        self._templates = templates

    def of(
        self,
        body: Mapping[str, Any],
        is_cancelled: Callable[[], bool],
        context_length: int | None,
        images: Sequence[str] = (),
    ) -> list[Prompt]:
        """Returns the prompts of a body: of a chat one, of a completion one or several.

        :param images: images of the chat, as data URLs; the chat has ``{"type": "image"}`` for each.
        :param context_length: a text with many more tokens is rejected without encoding all of it.
        :raises ContextLengthError: a prompt is such a text.
        :raises InvalidRequestError: a prompt has no tokens, or the template rejects it.
        :raises NotSupportedError: token ids that mistral.rs encodes from no text.
        """
        if "messages" in body:
            prompts = [self._chat(self._templates.render(body, is_cancelled), context_length, tuple(images))]
        else:
            prompts = self._completions(body["prompt"], is_cancelled, context_length)
        for number, prompt in enumerate(prompts):
            if not prompt.ids:
                name = "the request's prompt" if len(prompts) == 1 else f'"prompt[{number}]" of the request'
                raise InvalidRequestError(f"{name} has no tokens; it needs at least one")
        return prompts

    def _chat(self, text: str, context_length: int | None, images: tuple[str, ...]) -> Prompt:
        ids = self._tokenizer.encode_now(text, False, context_length)
        tokens = self._templates.image_tokens
        if not images or tokens is None:
            return Prompt(text, ids)
        # mistral.rs replaces the markers, and computes something else if there are more or less of them.
        count = text.count(tokens.marker)
        if count != len(images) or tokens.placeholder in text:
            raise InvalidRequestError(
                f'the prompt has "{tokens.marker}" {count} times for {len(images)} images, or has '
                f'"{tokens.placeholder}"; leave both out of texts, and use a chat template that writes the '
                "first one for each image"
            )
        # It does so in the text that it decodes from the prompt's tokens.
        if self._tokenizer.decode(ids, skip_special_tokens=False) != text:
            raise NotSupportedError(
                'the model\'s tokenizer does not decode the prompt as it was, so the engine "mistralrs" '
                "cannot put images into it"
            )
        expanded = text.replace(tokens.marker, tokens.expanded)
        return Prompt(text, self._tokenizer.encode_now(expanded, False, context_length), images)

    def _completions(
        self, given: str | list[Any], is_cancelled: Callable[[], bool], context_length: int | None
    ) -> list[Prompt]:
        if not (isinstance(given, list) and given and isinstance(given[0], str | list)):
            return [self._completion(given, "prompt", context_length)]
        prompts: list[Prompt] = []
        for number, one in enumerate(given):
            if is_cancelled():
                break
            name = "prompt" if len(given) == 1 else f"prompt[{number}]"
            prompts.append(self._completion(one, name, context_length))
        return prompts

    def _completion(self, given: str | list[int], name: str, context_length: int | None) -> Prompt:
        if isinstance(given, str):
            return self._of_text(given, context_length)
        ids = token_ids(given, name, self._tokenizer.vocab_size)
        return Prompt(self._text(ids, self._texts(ids), "send the text"), ids)

    def _of_text(self, text: str, context_length: int | None) -> Prompt:
        ids = self._tokenizer.encode_now(text, True, context_length)
        if context_length is not None and len(ids) > context_length:
            return Prompt(text, ids)  # too long: will be rejected, with this token count
        bare = self._tokenizer.encode_now(text)
        if ids == bare:
            return Prompt(text, ids)
        return Prompt(self._text(ids, self._around(text, ids, bare), "send a chat"), ids)

    def _text(self, ids: list[int], candidates: Iterator[str], hint: str) -> str:
        """Returns the first of some texts that is encoded as the given ids."""
        for text in candidates:
            if self._tokenizer.encode_now(text) == ids:
                return text
        raise NotSupportedError(
            f'"prompt" of the request cannot be used: the engine "mistralrs" takes only texts, and no text '
            f"is encoded as these token ids; {hint}, or use another engine"
        )

    def _around(self, text: str, ids: list[int], bare: list[int]) -> Iterator[str]:
        """Yields texts for ids that consist of a text's ids with added tokens around them."""
        for start in range(len(ids) - len(bare) + 1):
            if ids[start : start + len(bare)] == bare:
                before, after = self._names(ids[:start]), self._names(ids[start + len(bare) :])
                yield before + text + after
                yield f"{before} {text}{after}"
        yield from self._texts(ids)

    def _texts(self, ids: list[int]) -> Iterator[str]:
        """Yields texts that may be encoded as the given ids."""
        yield self._tokenizer.decode(ids, skip_special_tokens=False)
        # A decoder may drop a space at the beginning, or add spaces around special tokens.
        special = self._tokenizer.core.get_added_tokens_decoder()
        count = next((at for at, id in enumerate(ids) if id not in special), len(ids))
        rest = self._tokenizer.decode(ids[count:], skip_special_tokens=False)
        yield self._names(ids[:count]) + rest
        yield f"{self._names(ids[:count])} {rest}"
        yield b"".join(map(self._tokenizer.token_bytes, ids)).decode(errors="replace")

    def _names(self, ids: list[int]) -> str:
        return "".join(self._tokenizer.core.id_to_token(id) or "" for id in ids)
