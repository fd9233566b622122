# SPDX-License-Identifier: Apache-2.0
"""Lists the keys of request bodies: those that every engine accepts, optional ones, and ignored ones."""

from dataclasses import fields
from typing import Any

from dynamo_llm.runtime.engine import Sampling
from dynamo_llm.runtime.pipeline import structured_output

#: Keys that control how the next token is sampled.
sampling = [field.name for field in fields(Sampling)]
#: Keys that every engine accepts: the pipeline, the library, or the chat template reads them.
common = {
    *sampling,
    *structured_output.keys,
    "messages",
    "prompt",
    "model",
    "adapter",
    "stream",
    "stream_options",
    "request_id",
    "traceparent",
    "tracestate",
    "priority",
    "nvext",
    "n",
    "max_tokens",
    "max_completion_tokens",
    "ignore_eos",
    "stop",
    "include_stop_str_in_output",
    "logprobs",
    "top_logprobs",
    "tools",
    "documents",
    "reasoning_effort",
    "verbosity",
    "chat_template",
    "chat_template_kwargs",
    "add_generation_prompt",
    "continue_final_message",
}
#: Keys that an engine accepts if it declares them as ``request_keys``, each with the values that request the
#: default behavior. The engine's pipeline declares some of them on the engine's behalf.
optional: dict[str, tuple[Any, ...]] = {
    "allowed_token_ids": (),
    "audio": ({},),
    "bad_words": ([],),
    "best_of": (),
    "cache_salt": (),
    "echo": (False,),
    "extra": ({},),
    "function_call": ("none", "auto"),
    "functions": ([],),
    "length_penalty": (1,),
    "min_tokens": (0,),
    "modalities": (["text"], []),
    "moderation": ({}, False),
    "parallel_tool_calls": (True,),
    "return_token_ids": (False,),
    "skip_special_tokens": (True,),
    "stop_token_ids": ([],),
    "suffix": ("",),
    "tool_choice": ("none", "auto"),
    "truncate_prompt_tokens": (),
    "web_search_options": (),
}
#: What to use instead of an optional key.
hints = {
    "audio": "; it answers with text",
    "best_of": ' other than "n"; ask for "n" answers with "logprobs", and choose',
    "echo": "; put the prompt before the answer",
    "function_call": '; use "tool_choice"',
    "functions": '; use "tools"',
    "modalities": ' other than ["text"]',
    "return_token_ids": "; each response has its token ids anyway, if the engine reports them",
    "suffix": "; format the prompt for infilling as the model's card describes",
}
#: Keys that are ignored with a warning, because the answer is the same without them, each with the values
#: that cause no warning.
ignored: dict[str, tuple[Any, ...]] = {
    "metadata": ({},),
    "prediction": ({},),
    "prompt_cache_key": ("",),
    "prompt_cache_options": ({},),
    "prompt_cache_retention": ("",),
    "safety_identifier": ("",),
    "service_tier": ("auto", "default"),
    "store": (False,),
    "user": ("",),
}
