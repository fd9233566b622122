# SPDX-License-Identifier: Apache-2.0
"""A client in a process of its own: sequence_client.py CONFIG COUNT PROMPT... with a runtime's configuration
and prompts as JSON. It sends all prompts at the same time, again and again, and checks every token of the
answers, see sequence.py. Each time it prints "streaming" once all answers have begun, and at their end
"checked SECONDS" or the mistakes.
"""

import json
import sys
import threading
import time
from typing import Any

from dynamo_llm import DynamoError, Runtime
from sequence import continuation


def say(*words: object) -> None:
    """Writes a line."""
    print(*words, flush=True)


def send_all(runtime: Runtime, prompts: list[list[int]], count: int) -> None:
    """Sends the prompts, and checks the answers."""
    start = time.monotonic()
    begun = threading.Barrier(len(prompts) + 1)
    mistakes: list[str] = []

    def ask(prompt: list[int]) -> None:
        got: list[int] = []
        is_waiting = True
        try:
            for response in runtime.complete(prompt, max_tokens=count):
                got += response.token_ids
                if is_waiting:
                    is_waiting = False
                    begun.wait()
            if got != continuation(prompt, count):
                mistakes.append(f"{prompt} gives {got}")
        except DynamoError as error:
            mistakes.append(f"{prompt}: {error!r} after {len(got)} tokens")
        if is_waiting:
            begun.wait()

    threads = [threading.Thread(target=ask, args=[prompt]) for prompt in prompts]
    for thread in threads:
        thread.start()
    begun.wait()
    say("streaming")
    for thread in threads:
        thread.join()
    say("checked", round(time.monotonic() - start, 2)) if not mistakes else say("mistakes:", *mistakes)


def main(config: dict[str, Any], count: int, *prompts: list[int]) -> None:
    """Sends the prompts until the process is killed."""
    with Runtime(config) as runtime:
        while True:
            send_all(runtime, list(prompts), count)


if __name__ == "__main__":
    main(*(json.loads(word) for word in sys.argv[1:]))
