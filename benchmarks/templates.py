# SPDX-License-Identifier: Apache-2.0
"""Measures the cost of rendering chat templates in a child process: python benchmarks/templates.py

Prints the median times of a prompt rendered in a worker, as engines do, and in this process, measured in
turns; the time until a worker is ready; and the worker's memory.
"""

import argparse
import statistics
import time
from collections.abc import Callable

from dynamo_llm.paths import demo_model_dir
from dynamo_llm.runtime.child import Child
from dynamo_llm.runtime.engine import TemplateSettings
from dynamo_llm.runtime.pipeline.model_folder import ModelFolder
from dynamo_llm.runtime.pipeline.renderer import Renderer
from dynamo_llm.runtime.pipeline.template import ChatTemplates

worker = "dynamo_llm.runtime.pipeline.template_worker"


def seconds(call: Callable[[], object]) -> float:
    """Returns the duration of a call."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def private_memory(pid: int) -> int:
    """Returns the MiB of a process that it does not share with others."""
    with open(f"/proc/{pid}/smaps_rollup") as file:
        kilobytes = [int(line.split()[1]) for line in file if line.startswith("Private_")]
    return sum(kilobytes) >> 10


def main() -> None:
    """Measures, and prints the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=int, default=1000, help="prompts of each kind")
    times = parser.parse_args().times
    folder = ModelFolder(demo_model_dir())
    renderer = Renderer(folder.chat_templates, folder.special_tokens, TemplateSettings())
    here = ChatTemplates(folder.chat_templates, folder.special_tokens)
    for count in (1, 41):
        text = "What is a KV cache? " * (1 if count == 1 else 20)
        roles = ("user", "assistant")
        body = {"messages": [{"role": roles[n % 2], "content": text} for n in range(count)]}
        assert renderer.render(body) == here.render(body)
        pairs = [
            (seconds(lambda body=body: renderer.render(body)), seconds(lambda body=body: here.render(body)))
            for _ in range(times)
        ]
        ours, base = (statistics.median(side) * 1e6 for side in zip(*pairs, strict=True))
        print(f"{count} messages: {ours:.0f} µs in a worker, {base:.0f} µs in the process")
    starts = []
    for _ in range(10):
        child = Child(worker, name="benchmark", is_bare=True)
        starts.append(seconds(child.start))
        memory = private_memory(child.pid)
        child.stop()
    print(
        f"a worker is ready after {statistics.median(starts) * 1e3:.0f} ms; memory of its own: {memory} MiB"
    )


if __name__ == "__main__":
    main()
