# SPDX-License-Identifier: Apache-2.0
"""Finds the text nearest to a question: embeddings.py FOLDER_OF_AN_EMBEDDING_MODEL."""

# begin
import sys

import dynamo_llm

texts = [
    "A KV cache keeps keys and values.",
    "Prefill processes the prompt.",
    "Decode makes one token a step.",
]
question = "Prefill processes the prompt."

with dynamo_llm.Runtime(model=sys.argv[1]) as runtime:
    *vectors, wanted = runtime.embed([*texts, question]).result().vectors
    # Vectors have length 1, so the dot product is the cosine of the angle between them.
    scores = [sum(a * b for a, b in zip(vector, wanted, strict=True)) for vector in vectors]
    best = max(range(len(texts)), key=scores.__getitem__)
    print(f"{len(wanted)} numbers; nearest: {texts[best]} ({scores[best]:.2f})")
# end
