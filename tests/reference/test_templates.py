# SPDX-License-Identifier: Apache-2.0
"""Chat templates of public model families give the text of transformers, or a refusal with a reason.

The templates are written for these tests: each has the markup of its family's documented format and the
constructs of Jinja that the family's own uses, with short system texts.
"""

import collections
import copy
import functools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from compatibility import compatibility
from dynamo_llm.errors import DynamoError, InvalidRequestError, NotSupportedError
from dynamo_llm.runtime.pipeline.template import ChatTemplates
from template_conversations import Message, conversations

folder = Path(__file__).parent / "templates"
families = sorted(path.stem for path in folder.glob("*.jinja"))
special = {"bos_token": "<s>", "eos_token": "</s>"}

# What the templates read, found by reading them.
#: Contents in parts only.
parts_only = {"smolvlm", "idefics-3", "llava-1.5", "vlm2vec"}
#: Strings and parts of users.
strings_and_parts = {
    "llama-3.2-vision",
    "llama-4",
    "qwen-2-vl",
    "mistral-tekken",
    "pixtral",
    "gemma-3",
    "granite-4",
    "glm-4.5",
    "kimi-k2",
    "minimax-m2",
    "reka",
}
#: Look at the first part, whatever there is.
index_parts = {"smolvlm", "idefics-3"}
#: Of those that read both, by role: contents that are read as strings.
strings_of = {"llama-3.2-vision": {"system"}, "pixtral": {"system"}, "reka": {"system", "assistant"}}
#: Compare a content with none.
null_stays = {"deepseek-v3", "deepseek-r1", "deepseek-v3.1", "functionary", "olmo-3", "kimi-k2", "jamba-1.5"}
#: Ask whether there is a content.
asks_for_content = {
    "command-r-tools",
    "qwen-3-coder",
    "mistral-v3",
    "exaone-4",
    "gpt-oss",
    "seed-oss",
    "jamba-1.5",
    "olmo-3",
    "kimi-k2",
}
#: Put the arguments of a call in as a string.
string_arguments = {
    "deepseek-v3",
    "deepseek-r1",
    "deepseek-v3.1",
    "functionary",
    "qwen-3",
    "granite-4",
    "mistral-tekken",
    "devstral",
    "kimi-k2",
    "jamba-1.5",
    "nemotron-nano-2",
}
#: Know the role.
knows_developer = {"gpt-oss"}


def source(family: str) -> str:
    return (folder / f"{family}.jinja").read_text(encoding="utf-8")


@functools.lru_cache(maxsize=1)
def templates(family: str) -> ChatTemplates:
    return ChatTemplates({"default": source(family)}, special)


def normalized(family: str, messages: list[Message]) -> list[Message]:
    """The messages as the family's template reads them."""
    result = copy.deepcopy(messages)
    for message in result:
        if message["role"] == "developer" and family not in knows_developer:
            message["role"] = "system"
        content = message.get("content")
        reads_parts = family in strings_and_parts and message["role"] not in strings_of.get(family, ())
        if family in parts_only:
            if not isinstance(content, list):
                has_part = content or family in index_parts
                message["content"] = [{"type": "text", "text": content or ""}] if has_part else []
        elif isinstance(content, list) and not reads_parts:
            message["content"] = "\n".join(part["text"] for part in content)
        elif content is None:
            if family in null_stays and (family not in asks_for_content or "content" in message):
                message["content"] = None
            elif family in asks_for_content:
                message.pop("content", None)
            else:
                message["content"] = ""
        for call in message.get("tool_calls") or ():
            if family not in string_arguments:
                call["function"]["arguments"] = json.loads(call["function"]["arguments"])
    return result


def expected(family: str, messages: list[Message], body: dict[str, Any]) -> str | None:
    """What transformers makes of it; None if the template refuses it."""
    from transformers.utils.chat_template_utils import render_jinja_template

    settings: dict[str, Any] = {"add_generation_prompt": not body.get("continue_final_message"), **body}
    settings.update(settings.pop("chat_template_kwargs", {}))
    if settings.pop("tool_choice", None) == "none":
        settings.pop("tools", None)
    # Not apply_chat_template(), which leaves keys out that are null before the template sees them.
    try:
        rendered, _ = render_jinja_template([messages], chat_template=source(family), **special, **settings)
    except Exception:
        return None
    return str(rendered[0])


def reason(family: str, messages: list[Message], body: dict[str, Any], reference: str | None) -> str | None:
    """Why the library may refuse what transformers renders."""
    if any(message["role"] == "users" for message in messages):
        return "the template does not know the role"
    if "tools" in body and body.get("tool_choice") != "none" and "tools" not in source(family):
        return "the template does not know tools"
    for message in messages:
        content = message.get("content")
        texts = [part["text"] for part in content] if isinstance(content, list) else [content or ""]
        if message["role"] in ("system", "user") and not all(
            text.strip() in (reference or "") for text in texts
        ):
            return f"the template leaves out the {message['role']}"
    return None


@pytest.fixture(scope="module")
def rows() -> Iterator[dict[str, dict[str, str]]]:
    """Differences by family; written as JSON lines where the environment says."""
    found: dict[str, dict[str, str]] = {}
    yield found
    for family, differences in found.items():
        equal = f"{len(conversations) - len(differences)} of {len(conversations)} conversations equal"
        compatibility(
            "template",
            family,
            equal + (f", {len(differences)} refused" if differences else ""),
            "; ".join(f"{why} ({count})" for why, count in collections.Counter(differences.values()).items()),
        )


@pytest.mark.parametrize("family", families)
def test_as_transformers(family: str, rows: dict[str, dict[str, str]]) -> None:
    """Every conversation gives the text of transformers. What only the library refuses has a reason."""
    pytest.importorskip("transformers")
    differences = rows.setdefault(family, {})
    wrong = []
    for name, (messages, body, meaning) in conversations.items():
        reference = expected(family, normalized(family, meaning or messages), body)
        given = copy.deepcopy(messages)
        try:
            rendered = templates(family).render({"messages": messages, **body})
        except DynamoError as error:
            assert isinstance(error, InvalidRequestError | NotSupportedError)
            if reference is None and "refuses the messages" in str(error):
                continue
            why = reason(family, normalized(family, meaning or messages), body, reference)
            if why is None:
                wrong.append((name, reference, error))
            else:
                differences[name] = why
            continue
        assert messages == given  # the body is the caller's
        if rendered != reference:
            wrong.append((name, reference, rendered))
    assert not wrong, "\n".join(
        f"--- {name}\n{reference!r}\n{rendered!r}" for name, reference, rendered in wrong
    )


#: Prompts by family and conversation, written down from the families' documented formats.
golden = {
    ("chatml", "turns"): (
        "<|im_start|>system\nYou answer as briefly as you can.<|im_end|>\n"
        "<|im_start|>user\nWhat is the weather in Oslo, please?<|im_end|>\n"
        "<|im_start|>assistant\nIt is sunny there. <|im_end|>\n"
        "<|im_start|>user\n  And in Rome tomorrow? \n<|im_end|>\n<|im_start|>assistant\n"
    ),
    ("llama-3", "parts"): (
        "<s><|start_header_id|>user<|end_header_id|>\n\nFirst of two parts.\nSecond of two parts.<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\n"
    ),
    ("llama-2", "developer"): (
        "<s>[INST] <<SYS>>\nAnswer in French, whatever comes.\n<</SYS>>\n\n"
        "What is the weather in Oslo, please? [/INST]"
    ),
    ("smolvlm", "system"): (
        "<|im_start|>System: You answer as briefly as you can.<end_of_utterance>\n"
        "User: What is the weather in Oslo, please?<end_of_utterance>\nAssistant:"
    ),
    ("reka", "parts"): "human: First of two parts. Second of two parts. <sep> assistant:",
    ("granite-4", "parts"): (
        "<|start_of_role|>user<|end_of_role|>First of two parts.\nSecond of two parts.<|end_of_text|>\n"
        "<|start_of_role|>assistant<|end_of_role|>"
    ),
    ("gemma-3", "system in parts"): (
        "<s><start_of_turn>user\nBe brief and be kind.\n\nHello to everybody.<end_of_turn>\n"
        "<start_of_turn>model\n"
    ),
    ("qwen-3", "tool loop, null content"): (
        "<|im_start|>user\nWhat is the weather in Oslo, please?<|im_end|>\n"
        "<|im_start|>assistant\n<tool_call>\n"
        '{"name": "get_weather", "arguments": {"city": "Oslo", "days": 3}}\n</tool_call><|im_end|>\n'
        "<|im_start|>user\n<tool_response>\nsunny, 20 degrees\n</tool_response><|im_end|>\n"
        "<|im_start|>assistant\n"
    ),
    ("deepseek-v3", "tool loop, null content"): (
        "<s><｜User｜>What is the weather in Oslo, please?<｜Assistant｜><｜tool▁calls▁begin｜>"
        "<｜tool▁call▁begin｜>function<｜tool▁sep｜>get_weather\n```json\n"
        '{"city": "Oslo", "days": 3}\n```<｜tool▁call▁end｜>'
        "<｜tool▁outputs▁begin｜><｜tool▁output▁begin｜>sunny, 20 degrees<｜tool▁output▁end｜>"
        "<｜tool▁outputs▁end｜>"
    ),
    ("deepseek-v3.1", "id of OpenAI"): (
        "<s><｜User｜>What is the weather in Oslo, please?<｜Assistant｜></think><｜tool▁calls▁begin｜>"
        '<｜tool▁call▁begin｜>f<｜tool▁sep｜>{"a":1}<｜tool▁call▁end｜><｜tool▁calls▁end｜>'
        "<｜end▁of▁sentence｜><｜tool▁output▁begin｜>r<｜tool▁output▁end｜>"
    ),
    ("qwen-3-coder", "tool loop, absent content"): (
        "<|im_start|>user\nWhat is the weather in Oslo, please?<|im_end|>\n"
        "<|im_start|>assistant\n<tool_call>\n"
        "<function=get_weather>\n<parameter=city>\nOslo\n</parameter>\n<parameter=days>\n3\n</parameter>\n"
        "</function>\n</tool_call><|im_end|>\n<|im_start|>user\n<tool_response>\nsunny, 20 degrees\n"
        "</tool_response>\n<|im_end|>\n<|im_start|>assistant\n"
    ),
    ("olmo-3", "no arguments"): (
        "<|im_start|>system\nYou are Olmo, a helpful function-calling AI assistant. "
        "You do not have access to any functions. <functions></functions><|im_end|>\n"
        "<|im_start|>user\nWhat is the weather in Oslo, please?<|im_end|>\n"
        "<|im_start|>assistant\n<function_calls>now()</function_calls><|im_end|>\n"
        "<|im_start|>environment\nsunny, 20 degrees<|im_end|>\n<|im_start|>assistant\n"
    ),
    ("zephyr", "continued"): "<|user|>\nWhat is the weather in Oslo, please?</s>\n<|assistant|>\nIt is sunny",
}
refused = {
    ("gemma", "system"): "refuses the messages: System role not supported",
    ("mistral-v1", "developer"): "refuses the messages: Conversation roles must alternate",
    ("mistral-v3", "id of OpenAI"): "refuses the messages: Tool call IDs should be alphanumeric strings",
    ("phi-3-first", "system"): r'"messages\[0\]" .*role "system".* leaves it out',
    ("phi-3-first", "developer"): r'"messages\[0\]" .*role "developer".* leaves it out',
    ("hunyuan", "two systems"): r'"messages\[1\]" .*role "system".* leaves it out',
    (
        "chatml",
        "unknown role",
    ): r'"messages\[0\].role" .* is "users", .*: assistant, developer, system, tool, user$',
    ("llama-3.1", "unknown role"): r'"messages\[0\].role" .* is "users", .* ipython, ',
    ("zephyr", "tools"): 'does not use "tools"',
}


@pytest.mark.parametrize(("family", "name"), golden)
def test_texts(family: str, name: str) -> None:
    messages, body, _ = conversations[name]
    assert templates(family).render({"messages": messages, **body}) == golden[family, name]


@pytest.mark.parametrize(("family", "name"), refused)
def test_refusals(family: str, name: str) -> None:
    messages, body, _ = conversations[name]
    with pytest.raises((InvalidRequestError, NotSupportedError), match=refused[family, name]):
        templates(family).render({"messages": messages, **body})
