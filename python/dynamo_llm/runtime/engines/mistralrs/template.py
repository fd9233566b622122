# SPDX-License-Identifier: Apache-2.0
"""Chats as prompts, and the template that lets mistral.rs take a prompt as it is.

The wheel streams chats only, applies a template to all of them, and hands roles and texts to it, but no tool
calls. So chats are made prompts here, and the template that mistral.rs gets hands a prompt on. The text of
the model's template is in there, too: mistral.rs looks into it for the marks of what the model thinks.
"""

import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dynamo_llm.errors import InvalidConfigError
from dynamo_llm.runtime.engines.mistralrs import gguf
from dynamo_llm.runtime.engines.mistralrs.model import Model
from dynamo_llm.runtime.engines.mistralrs.options import Options
from dynamo_llm.runtime.pipeline import messages
from dynamo_llm.runtime.pipeline.folder import Folder
from dynamo_llm.runtime.pipeline.template import ChatTemplates


class Templates:
    """The chat templates of a model.

    :raises InvalidConfigError: ``options.chat_template`` cannot be read.
    :raises ModelNotFoundError: a file of the model is broken.
    """

    def __init__(self, model: Model, options: Options) -> None:
        if model.kind == "gguf":
            metadata = gguf.metadata(model.path)
            self._sources, tokens = gguf.chat_templates(metadata), gguf.special_tokens(metadata)
        else:
            has_tokenizer = (model.path / "tokenizer.json").is_file()
            folder = Folder(model.path if has_tokenizer else options.tokenizer_json or model.path)
            self._sources, tokens = folder.chat_templates, folder.special_tokens
        if options.chat_template is not None:
            self._sources = {"default": _read(options.chat_template)}
        self._templates = ChatTemplates(self._sources, tokens)

    def __bool__(self) -> bool:
        return bool(self._sources)

    def render(self, body: Mapping[str, Any]) -> str:
        """The prompt of a chat.

        :raises InvalidRequestError: what the template said.
        :raises NotSupportedError: it does not know something of the body, or there is none.
        """
        return self._templates.render(body, messages.plain(body["messages"]))

    def for_engine(self) -> str:
        """The template for mistral.rs: it hands a prompt on, and has the model's in a comment."""
        comment = "\n".join(self._sources.values()).replace("#}", "# }")
        return f"{{# {comment} #}}{{{{ messages[0].content }}}}"


def _read(file: str) -> str:
    try:
        return Path(file).expanduser().read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise InvalidConfigError(f'"options.chat_template" of the configuration: {error}') from error


@contextmanager
def file_for_engine(templates: Templates) -> Iterator[str]:
    """A file with the template for mistral.rs, while that loads."""
    handle, name = tempfile.mkstemp(suffix=".jinja", prefix="dynamo-llm-")
    try:
        with os.fdopen(handle, "w", encoding="utf-8", newline="") as file:
            file.write(templates.for_engine())
        yield name
    finally:
        os.unlink(name)
