"""The chat format: special tokens, how a conversation is rendered, and the Jinja template."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

BEGIN = "<|begin|>"
END = "<|end|>"
SYSTEM = "<|system|>"
USER = "<|user|>"
ASSISTANT = "<|assistant|>"
SPECIAL_TOKENS = (END, BEGIN, SYSTEM, USER, ASSISTANT)

CHAT_TEMPLATE = (
    "{{ bos_token }}"
    # Tools in the notation of Hermes, which Qwen and others use, too. The model was not trained on it.
    "{% if tools %}{{ '<|system|>' }}Functions:"
    "{% for tool in tools %}{{ '\\n' }}{{ tool | tojson }}{% endfor %}"
    "{{ '\\n' }}To call one, answer "
    '<tool_call>{"name": "...", "arguments": {...}}</tool_call>'
    "{{ eos_token }}{% endif %}"
    "{% for message in messages %}"
    "{% if message['role'] == 'assistant' %}{{ '<|assistant|>' }}"
    "{% elif message['role'] == 'system' or message['role'] == 'developer' %}"
    "{{ '<|system|>' }}"
    "{% else %}{{ '<|user|>' }}{% endif %}"
    "{% if message['role'] == 'tool' %}"
    "<tool_response>{{ message['content'] | trim }}</tool_response>"
    "{% elif message['tool_calls'] %}"
    "{% if message['content'] %}{{ message['content'] | trim }}{{ '\\n' }}{% endif %}"
    "{% for call in message['tool_calls'] %}"
    "<tool_call>{\"name\": {{ call['function']['name'] | tojson }}, "
    "\"arguments\": {{ call['function']['arguments'] | tojson }}}</tool_call>"
    "{% endfor %}"
    "{% else %}{{ message['content'] | trim }}{% endif %}"
    "{{ eos_token }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)


class Message(NamedTuple):
    """One message of a conversation."""

    role: str
    content: str


_ROLE_TOKENS = {"system": SYSTEM, "developer": SYSTEM, "assistant": ASSISTANT}


def render(messages: Iterable[Message], add_generation_prompt: bool = True) -> str:
    """Render ``messages`` exactly as ``CHAT_TEMPLATE`` does for a chat without tools."""
    parts = [BEGIN]
    for role, content in messages:
        parts.append(f"{_ROLE_TOKENS.get(role, USER)}{content.strip()}{END}")
    if add_generation_prompt:
        parts.append(ASSISTANT)
    return "".join(parts)
