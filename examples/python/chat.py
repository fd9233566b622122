# SPDX-License-Identifier: Apache-2.0
"""Streams an answer, token by token: chat.py ["question" ["configuration"]].

    python chat.py "What is a KV cache?"
    python chat.py "one two three" '{"engine": "echo", "options": {"tokens_per_second": 2}}'

Ctrl-C cancels the answer.
"""

import sys

import dynamo_llm


def chat(question: str = "What is a KV cache?", config: str = "{}") -> None:
    """Print an answer as it comes."""
    with dynamo_llm.Runtime(config) as runtime, runtime.chat(question) as request:
        finish = None
        for response in request:
            print(response.text, end="", flush=True)
            finish = response.finish_reason
        print(f"\n({finish})")


try:
    chat(*sys.argv[1:])
except KeyboardInterrupt:
    print("\n(cancelled)")
    sys.exit(130)
except dynamo_llm.DynamoError as error:
    sys.exit(f"chat: {error.message}")
