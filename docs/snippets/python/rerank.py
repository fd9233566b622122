# SPDX-License-Identifier: Apache-2.0
"""Ranks documents by their relevance to a question: rerank.py FOLDER_OF_AN_EMBEDDING_MODEL."""

# begin
import sys

import dynamo_llm

documents = [
    "A KV cache keeps keys and values.",
    "Prefill processes the prompt.",
    "Decode makes one token a step.",
]
question = "Prefill processes the prompt."

with dynamo_llm.Runtime(model=sys.argv[1]) as runtime:
    best = runtime.rerank(question, documents, top_n=1).result().results[0]
    print(f"{best.text} ({best.relevance_score:.2f})")
    (score,) = runtime.score(question, documents[1]).result().scores
    print(f"{score:.2f}")
# end
