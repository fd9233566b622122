# SPDX-License-Identifier: Apache-2.0
"""Converts log-probs of mistral.rs to those of the pipeline."""

import math
from typing import Any

from dynamo_llm.runtime.engine import TokenLogprob

#: Replaces minus infinity, which JSON does not have. It is the log-prob of tokens that a grammar excludes.
_least = -9999.0


def _finite(logprob: float) -> float:
    return max(logprob, _least) if not math.isnan(logprob) else _least


def of_token(given: Any, count: int) -> TokenLogprob:
    """Returns the log-prob of a token.

    :param given: a ResponseLogprob of mistral.rs.
    :param count: number of requested alternatives.
    """
    top = [(other.token, _finite(other.logprob)) for other in given.top_logprobs[:count]]
    return {"logprob": _finite(given.logprob), "top": top}
