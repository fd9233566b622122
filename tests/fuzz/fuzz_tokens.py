# SPDX-License-Identifier: Apache-2.0
"""Decodes random token ids with tokenizers of all kinds: natively, in any portions, and with the library
``tokenizers``, all at once. Also looks for random stop strings.

    python tests/fuzz/fuzz_tokens.py SECONDS [SEED]

Prints how many answers were compared, and ends with status 1 and the input of the first difference.
"""

import json
import os
import random
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from dynamo_llm import _core
from dynamo_llm.paths import demo_model_dir
from dynamo_llm.runtime.pipeline.model_folder import ModelFolder
from dynamo_llm.runtime.pipeline.tokenizer import Tokenizer

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "reference" / "tokenizers"))

from tokenizer_kinds import kinds

#: Texts whose tokens occur more often than others: they form words and code points.
_texts = ["The quick brown fox", "Zürich 東京 😀 👩‍👩‍👧", "don't , .  a", "<|begin|> <s> [MASK]", "it's 3.14"]


def added(whole: str, before: str) -> str:
    """Returns a text without its common prefix with another."""
    same = 0
    while same < min(len(whole), len(before)) and whole[same] == before[same]:
        same += 1
    return whole[same:]


def cut(text: str, stops: list[str], includes: bool) -> str:
    """Returns a text up to the stop string that ends first; of those, the longest."""
    found = [(at + len(stop), at) for stop in stops if (at := text.find(stop)) >= 0]
    if not found:
        return text
    end, start = min(found)
    return text[: end if includes else start]


class Trial:
    """One answer, made of a seed.

    :param tokenizers: by name.
    """

    def __init__(self, tokenizers: dict[str, Tokenizer], seed: int) -> None:
        self.chance = chance = random.Random(seed)
        self.name = chance.choice(sorted(tokenizers))
        self.tokenizer = tokenizers[self.name]
        self.skips = chance.random() < 0.5
        self.ids = self._ids()
        self.size = chance.randrange(len(self.ids) + 1)

    def _ids(self) -> list[int]:
        ids: list[int] = []
        for _ in range(self.chance.randrange(1, 6)):
            if self.chance.random() < 0.5:
                text = self.chance.choice(_texts)
                some = self.tokenizer.core.encode(text, add_special_tokens=False).ids
                at = self.chance.randrange(len(some) + 1)
                ids += some[at:] if self.chance.random() < 0.5 else some[:at]
            else:
                most = self.tokenizer.vocab_size + 3  # ids beyond the vocabulary are skipped
                ids += [self.chance.randrange(most) for _ in range(self.chance.randrange(1, 6))]
        return ids

    def reference(self, ids: list[int]) -> str | None:
        """Returns the text that ``tokenizers`` gives; None where the library is known to differ from it."""
        text = self.tokenizer.core.decode(ids, skip_special_tokens=self.skips)
        return None if "\ufffd" in text and self.tokenizer.vocabulary.has_byte_tokens else text

    def streamed(self, stops: list[str], includes: bool) -> str:
        """Returns the text of the answer, decoded natively in portions."""
        decoder = _core.TokenDecoder(self.tokenizer.vocabulary, self.ids[: self.size], self.skips)
        matcher = _core.StopStrings(stops, includes)
        text, at = "", self.size
        while at < len(self.ids):
            count = self.chance.choice([1, 1, 2, 3, 9])
            text += matcher.feed(decoder.feed(self.ids[at : at + count]))
            at += count
        text += matcher.feed(decoder.flush())
        return text if matcher.has_matched else text + matcher.flush()

    def run(self) -> str | None:
        """Returns the difference; None without one."""
        before, whole = self.reference(self.ids[: self.size]), self.reference(self.ids)
        if before is None or whole is None:
            return None
        answer = added(whole, before)
        stops: list[str] = []
        if answer and self.chance.random() < 0.7:
            at = self.chance.randrange(len(answer))
            stops = [answer[at : at + self.chance.randrange(1, 8)], self.chance.choice(["e", "\ufffd", " x"])]
        includes = self.chance.random() < 0.5
        expected, got = cut(answer, stops, includes), self.streamed(stops, includes)
        if got == expected:
            return None
        where: dict[str, Any] = {"tokenizer": self.name, "ids": self.ids, "prompt": self.size}
        where |= {"skips": self.skips, "stops": stops, "includes": includes}
        return f"{where}: {got!r} instead of {expected!r}"


def main(seconds: float, seed: int = 1) -> None:
    """Compares answers for a time."""
    with tempfile.TemporaryDirectory() as place:
        tokenizers = {"demo model": Tokenizer(ModelFolder(demo_model_dir()))}
        for name, make in kinds.items():
            folder = Path(place) / name
            folder.mkdir()
            make().save(str(folder / "tokenizer.json"))
            tokenizers[name] = Tokenizer(ModelFolder(folder))
        end, count = time.monotonic() + seconds, 0
        while time.monotonic() < end:
            if difference := Trial(tokenizers, seed * 1_000_000_000 + count).run():
                sys.exit(f"seed {seed}, answer {count}: {difference}")
            count += 1
    print(f"tokens: {count} answers of {len(tokenizers)} tokenizers, no difference")
    if rows := os.environ.get("DYNAMO_LLM_RELIABILITY"):
        what = "token ids of tokenizers of all kinds, natively and with the library tokenizers"
        row = {"test": "fuzz/fuzz_tokens.py", "what": what, "how_often": count, "happened": "no difference"}
        with Path(rows).open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")


if __name__ == "__main__":
    main(float(sys.argv[1]), *map(int, sys.argv[2:]))
