# SPDX-License-Identifier: Apache-2.0
"""Adds chat templates, tokenization, detokenization, and stop strings to token-level engines."""
