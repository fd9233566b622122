# SPDX-License-Identifier: Apache-2.0
"""Tests, when a model is loaded, whether it can be computed step by step."""

import torch
from transformers import DynamicCache

from dynamo_llm.errors import DynamoError, NotSupportedError, OutOfMemoryError
from dynamo_llm.runtime.engine import Sampling, TokenRequest
from dynamo_llm.runtime.stepping.batch import Batch, Row
from dynamo_llm.runtime.stepping.network import Network
from dynamo_llm.runtime.stepping.sampler import Sampler

#: Layers of a cache that hold keys and values by token, or no data.
_by_token = {"DynamicLayer", "DynamicSlidingWindowLayer", "DummyLayer"}
#: Minimum cosine of the angle between the logits of a step and those computed without a cache. It is over
#: 0.99 in bfloat16, and much lower if a model ignores the cache, the padding, or the positions.
_least_likeness = 0.9
#: Maximum difference between the same logits computed twice, relative to their spread.
_most_rounding = 1e-3


def check(network: Network, name: str) -> None:
    """Computes two short rows in pieces and in one batch, and compares the results with each row alone.

    :param name: the model's name in error messages.
    :raises NotSupportedError: the model keeps a state other than keys and values, fails, or gives other
        results in a batch.
    """
    _check_cache(network, name)
    ids = [(13 + 7919 * index) % network.vocabulary for index in range(6)]
    rows = [_row(network, some) for some in (ids[:3], ids[3:4])]
    answers = ids[4:]
    try:
        with torch.inference_mode():
            batch = Batch(network)
            for row, token in zip(rows, answers, strict=True):
                while row.prefill(network, budget=2) is None:
                    pass
                row.answer.append(token)
                batch.join(row)
            stepped = batch.step()
            whole = [network.whole([*row.request.token_ids, *row.answer]) for row in rows]
            looks_ahead = _looks_ahead(network, ids[:3], whole[0])
    except torch.OutOfMemoryError as error:
        raise OutOfMemoryError(f"{name} does not fit into memory: {error}") from error
    except Exception as error:
        raise _refusal(
            name, f"fails with a cache of keys and values: {type(error).__name__}: {error}"
        ) from error
    if looks_ahead:
        raise _refusal(name, "attends to the tokens that follow")
    if any(
        _likeness(one, other) < _least_likeness
        for one, other in zip(stepped, (logits[-1] for logits in whole), strict=True)
    ):
        raise _refusal(name, "gives other results in a batch, or with a cache, than alone and without one")


def _check_cache(network: Network, name: str) -> None:
    try:
        layers = DynamicCache(config=network.config).layers
    except Exception as error:
        raise _refusal(name, f"has a cache of its own kind: {error!r}") from error
    other = sorted({type(layer).__name__ for layer in layers} - _by_token)
    if other:
        raise _refusal(
            name, f"keeps a state that is not the keys and values of its tokens ({', '.join(other)})"
        )


def _refusal(name: str, reason: str) -> DynamoError:
    return NotSupportedError(
        f'the model {name} {reason}; the engine "transformers" computes requests together, step by step, '
        f'which needs keys and values of each token. The engine "vllm" may be able to run it'
    )


def _row(network: Network, token_ids: list[int]) -> Row:
    request = TokenRequest("probe", token_ids, 1, Sampling())
    return Row(request, Sampler(request, network.vocabulary, network.device), None)


def _looks_ahead(network: Network, ids: list[int], whole: torch.Tensor) -> bool:
    """Whether a model's logits depend on later tokens, as those of BERT do.

    Tests only models whose configuration declares that they are not decoders; some of these are decoders
    anyway.
    """
    if getattr(network.config, "is_decoder", True):
        return False
    other = network.whole([*ids, 0])[: len(ids)]
    return bool((other - whole[: len(ids)]).abs().max() > _most_rounding * other.std())


def _likeness(one: torch.Tensor, other: torch.Tensor) -> float:
    """Returns 1 for proportional logits, 0 for unrelated ones, and 1 if no pair of numbers is finite."""
    finite = one.isfinite() & other.isfinite()
    if not finite.any():
        return 1.0
    one, other = one[finite], other[finite]
    return float(torch.cosine_similarity(one - one.mean(), other - other.mean(), dim=0))
