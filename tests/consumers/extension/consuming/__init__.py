# SPDX-License-Identifier: Apache-2.0
"""Asks the engine echo, from C."""

from consuming._asking import ask

__all__ = ["ask"]
