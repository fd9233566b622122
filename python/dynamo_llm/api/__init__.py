# SPDX-License-Identifier: Apache-2.0
"""The Python API. :mod:`dynamo_llm` exports all of it."""
