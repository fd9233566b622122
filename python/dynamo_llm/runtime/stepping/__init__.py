# SPDX-License-Identifier: Apache-2.0
"""Runs models step by step with continuous batching. Needs PyTorch and transformers."""
