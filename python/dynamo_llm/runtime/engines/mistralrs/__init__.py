# SPDX-License-Identifier: Apache-2.0
"""The engine ``mistralrs``: runs mistral.rs in the process, through its Python package."""

from dynamo_llm.runtime.engines.mistralrs.engine import MistralRsEngine
from dynamo_llm.runtime.engines.mistralrs.options import Options

__all__ = ["MistralRsEngine", "Options"]
