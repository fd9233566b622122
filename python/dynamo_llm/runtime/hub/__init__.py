# SPDX-License-Identifier: Apache-2.0
"""Models of the Hugging Face Hub by name: their cache, and downloads."""
