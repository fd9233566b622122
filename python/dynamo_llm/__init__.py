# SPDX-License-Identifier: Apache-2.0
"""LLM inference for C, C++ and Python on one core.

This package carries the C library with its headers (see :mod:`dynamo_llm.paths` and the command
``dynamo-llm config``), and the runtime that runs engines written for Python.
"""

from dynamo_llm import _core

__version__: str = _core.VERSION
__all__ = ["__version__"]
