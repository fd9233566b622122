# SPDX-License-Identifier: Apache-2.0
"""Continuous batching for models that are called step by step. Needs PyTorch and transformers."""
