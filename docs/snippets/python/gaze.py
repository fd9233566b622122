from pathlib import Path

from dynamo_llm.runtime.engine import ExpandedPrompt
from tokenizers import Tokenizer


class Gaze:
    """Describes the files of images. Each takes 4 tokens of the prompt."""

    kind = "tokens"

    def __init__(self, config):
        self._path = Path(config.model)

    def start(self):
        self._tokenizer = Tokenizer.from_file(str(self._path / "tokenizer.json"))
        self._marker = self._tokenizer.token_to_id("<image>")

    def describe(self):
        return {"path": str(self._path), "context_length": 512, "capabilities": ["images"]}

    async def expand(self, token_ids, images):
        expanded = []
        for token in token_ids:
            expanded += [token] * (4 if token == self._marker else 1)
        return ExpandedPrompt(expanded, images)  # a model would decode them

    async def generate(self, request):
        for image in request.media or ():
            text = f"{image.format}, {len(image.data)} bytes. "
            yield {"token_ids": self._tokenizer.encode(text).ids}

    def stop(self):
        pass
