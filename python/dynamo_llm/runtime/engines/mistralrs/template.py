# SPDX-License-Identifier: Apache-2.0
"""Chats as prompts, and the template that lets mistral.rs take a prompt as it is.

The wheel streams chats only, applies a template to all of them, and hands roles and texts to it, but no tool
calls. So chats are made prompts here, and the template that mistral.rs gets hands a prompt on. The text of
the model's template is in there, too: mistral.rs looks into it for the marks of what the model thinks.
"""

import os
import re
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from dynamo_llm.errors import InvalidConfigError
from dynamo_llm.runtime.engines.mistralrs import gguf
from dynamo_llm.runtime.engines.mistralrs.model import Model
from dynamo_llm.runtime.engines.mistralrs.options import Options
from dynamo_llm.runtime.pipeline import messages
from dynamo_llm.runtime.pipeline.folder import Folder
from dynamo_llm.runtime.pipeline.template import ChatTemplates

try:
    import fcntl
except ImportError:  # not on Windows
    fcntl = None  # type: ignore[assignment]

#: What hands a prompt on, and nothing more.
_hands_on = Path(__file__).with_name("hands_on.jinja")
#: What templates of models that think have, in whatever notation.
_marks = re.compile("think|thought|channel|reason|analysis", re.I)
_prefix, _suffix = "dynamo-llm-", ".jinja"


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

    def for_engine(self) -> str | None:
        """The template for mistral.rs: it hands a prompt on, and has the model's in a comment. None if the
        model's has no marks, so that :data:`_hands_on` will do.
        """
        source = "\n".join(self._sources.values())
        if not _marks.search(source):
            return None
        return f"{{# {source.replace('#}', '# }')} #}}{{{{ messages[0].content }}}}"


def _read(file: str) -> str:
    try:
        return Path(file).expanduser().read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise InvalidConfigError(f'"options.chat_template" of the configuration: {error}') from error


@contextmanager
def file_for_engine(templates: Templates) -> Iterator[str]:
    """A file with the template for mistral.rs, while that loads.

    It takes no text, but files. Only the template of a model that thinks needs one of its own. That is
    locked while it is used, so that what a killed process left is known, and goes.
    """
    text = templates.for_engine()
    if text is None:
        yield str(_hands_on)
        return
    _remove_left_files()
    handle, name = tempfile.mkstemp(suffix=_suffix, prefix=_prefix)
    try:
        with os.fdopen(handle, "w", encoding="utf-8", newline="") as file:
            _lock(file)
            file.write(text)
            file.flush()
            yield name
    finally:
        os.unlink(name)


def _lock(file: IO[str]) -> bool:
    """Whether nobody else had it."""
    if fcntl is None:
        return False
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _remove_left_files() -> None:
    for path in Path(tempfile.gettempdir()).glob(f"{_prefix}*{_suffix}"):
        with suppress(OSError), path.open() as file:
            # One that was made a moment ago is not locked yet.
            if time.time() - os.fstat(file.fileno()).st_mtime > 60 and _lock(file):
                path.unlink()
