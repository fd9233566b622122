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
    "{% for message in messages %}"
    "{% if message['role'] == 'assistant' %}{{ '<|assistant|>' }}"
    "{% elif message['role'] == 'system' or message['role'] == 'developer' %}"
    "{{ '<|system|>' }}"
    "{% else %}{{ '<|user|>' }}{% endif %}"
    "{{ message['content'] | trim }}{{ eos_token }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)


class Message(NamedTuple):
    """One message of a conversation."""

    role: str
    content: str


_ROLE_TOKENS = {"system": SYSTEM, "developer": SYSTEM, "assistant": ASSISTANT}


def render(messages: Iterable[Message], add_generation_prompt: bool = True) -> str:
    """Render ``messages`` exactly as ``CHAT_TEMPLATE`` does."""
    parts = [BEGIN]
    for role, content in messages:
        parts.append(f"{_ROLE_TOKENS.get(role, USER)}{content.strip()}{END}")
    if add_generation_prompt:
        parts.append(ASSISTANT)
    return "".join(parts)
