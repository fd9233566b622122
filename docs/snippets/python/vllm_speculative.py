# SPDX-License-Identifier: Apache-2.0
"""Answers with speculative decoding: vllm_speculative.py FOLDER_OF_THE_MODEL FOLDER_OF_THE_DRAFT_MODEL."""

# begin
import sys

import dynamo_llm

# vLLM's child processes import this file again.
if __name__ == "__main__":
    model, draft = sys.argv[1:]
    speculative = {"method": "draft_model", "model": draft, "num_speculative_tokens": 3}
    options = {"dtype": "float32", "enforce_eager": True, "kv_cache_memory_bytes": 1 << 26}
    for more in {}, {"speculative_config": speculative}:
        with dynamo_llm.Runtime(engine="vllm", model=model, options=options | more) as runtime:
            print(runtime.complete("What is a KV cache?", max_tokens=12, ignore_eos=True).result().token_ids)
# end
