# SPDX-License-Identifier: Apache-2.0
"""Publishes the KV blocks of a prompt, as an engine does when it has computed them: publish.py FOLDER.

    python publish.py /tmp/cluster

The folder is the whole cluster. Routers that share it learn which blocks this worker has.
"""

import sys

from dynamo_llm import KvPublisher

block_size = 16


def publish(folder: str) -> None:
    """Report that four blocks were computed, and that the last of them was dropped."""
    cluster = {"discovery": "file", "path": folder}
    with KvPublisher(
        cluster=cluster, endpoint="dynamo.backend.generate", kv_block_size=block_size
    ) as publisher:
        prompt = list(range(1, 4 * block_size + 1))  # token ids
        hashes = publisher.hashes(prompt)
        publisher.stored(prompt, hashes)
        publisher.removed(hashes[-1:])
        publisher.flush(timeout=10)
        print(f"worker {publisher.info['worker_id']} has {len(hashes) - 1} blocks of the prompt")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: publish.py FOLDER")
    publish(sys.argv[1])
