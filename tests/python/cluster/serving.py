# SPDX-License-Identifier: Apache-2.0
"""A worker in a process of its own: serving.py CONFIG. It prints its state when that changes."""

import json
import sys
import time

import dynamo_llm

if __name__ == "__main__":
    with dynamo_llm.Worker(json.loads(sys.argv[1])) as worker:
        state = ""
        while True:
            if state != (state := worker.info["state"]):
                print(state, flush=True)
            time.sleep(0.1)
