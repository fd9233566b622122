# SPDX-License-Identifier: Apache-2.0
"""What stands around engines that take token ids: chat template, tokenizer, detokenizer, stop strings."""
