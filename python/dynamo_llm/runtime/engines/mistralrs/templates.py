# SPDX-License-Identifier: Apache-2.0
"""Renders chats as prompts, and provides a template with which mistral.rs takes a prompt unchanged.

The wheel of mistral.rs only streams chats, applies a template to all of them, and passes roles and texts to
it, but no tool calls. So chats are rendered here, and mistral.rs gets a template that outputs the prompt. A
comment in that template contains the text of the model's template, in which mistral.rs looks for the markers
of reasoning.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dynamo_llm.errors import InvalidConfigError, ModelNotFoundError
from dynamo_llm.runtime import gguf_file, model_files
from dynamo_llm.runtime.engine import TemplateSettings
from dynamo_llm.runtime.engines.mistralrs import gguf_metadata, temporary_files
from dynamo_llm.runtime.engines.mistralrs.model import Model
from dynamo_llm.runtime.engines.mistralrs.options import Options
from dynamo_llm.runtime.pipeline.renderer import Renderer
from dynamo_llm.runtime.pipeline.tokenizer import Tokenizer

#: A template that outputs the prompt unchanged.
_hands_on = Path(__file__).with_name("hands_on.jinja")
#: Markers of reasoning that mistral.rs looks for in a template: all those in one of the groups.
_marks = (("<think>", "</think>"), ("<|channel",), ("<start_of_turn>", "thought"))
#: The same template, as text, for models of texts and for models that also get images, before the prompt.
_text_alone = "{{ messages[0].content }}"
_text_at_end = (
    "{% if messages[0].content is string %}{{ messages[0].content }}"
    "{% else %}{{ (messages[0].content | last).text }}{% endif %}"
)
#: Markers that make mistral.rs report every token, and hold back a "<".
_every_token = "{# <think></think> #}"
_file_name = "chat_template.jinja"


class Templates:
    """The chat templates of a model.

    :raises InvalidConfigError: ``options.chat_template`` cannot be read.
    :raises ModelNotFoundError: a file of the model is broken.
    """

    def __init__(self, model: Model, options: Options, settings: TemplateSettings) -> None:
        if model.kind == "gguf":
            metadata = gguf_file.read(model.path).metadata
            self._sources = gguf_metadata.chat_templates(metadata)
            tokens = gguf_metadata.special_tokens(metadata)
        else:
            folder = model.tokenizer_folder(options)
            self._sources = folder.chat_templates
            tokens = folder.special_tokens
        if options.chat_template is not None:
            self._sources = {"default": _read(options.chat_template)}
        self.image_tokens = model.image_tokens
        """The tokens for an image; None if the model reads none."""
        self._renderer = Renderer(
            self._sources, tokens, settings, media=() if self.image_tokens is None else ["image"]
        )

    def __bool__(self) -> bool:
        return bool(self._sources)

    def render(self, body: Mapping[str, Any], is_cancelled: Callable[[], bool]) -> str:
        """Returns the prompt of a chat. Blocks; see :meth:`Renderer.render`."""
        return self._renderer.render(body, is_cancelled)

    def for_engine(self) -> str | None:
        """Returns the template for mistral.rs, which outputs the prompt and has the model's template in a
        comment. None if the model's has no markers, so that :data:`_hands_on` is sufficient.
        """
        source = "\n".join(self._sources.values())
        writes = _text_alone if self.image_tokens is None else _text_at_end
        if not self.thinks:
            return None if self.image_tokens is None else writes
        return f"{{# {source.replace('#}', '# }')} #}}{writes}"

    @property
    def thinks(self) -> bool:
        """Whether the model's template has markers of reasoning."""
        source = "\n".join(self._sources.values())
        return any(all(mark in source for mark in marks) for marks in _marks)


def _read(file: str) -> str:
    try:
        return model_files.read_text(Path(file).expanduser())
    except ModelNotFoundError as error:
        raise InvalidConfigError(f'"options.chat_template" of the configuration: {error.message}') from error


def _has_hidden_text(tokenizer: Tokenizer) -> bool:
    """Whether mistral.rs would omit tokens that belong to the text: it considers all added tokens in angle
    brackets special, and reports them only if the template has markers of reasoning.
    """
    return any(
        not token.special and token.content.startswith("<") and token.content.endswith(">")
        for token in tokenizer.core.get_added_tokens_decoder().values()
    )


@contextmanager
def file_for_engine(templates: Templates, tokenizer: Tokenizer) -> Iterator[str]:
    """Provides a file with the template while mistral.rs loads, which does not accept it as text."""
    text = templates.for_engine()
    if not templates.thinks and _has_hidden_text(tokenizer):
        text = _every_token + (text or _text_alone)
    if text is None:
        yield str(_hands_on)
        return
    with temporary_files.folder({_file_name: text}) as folder:  # the name must end with .jinja
        yield str(folder / _file_name)
