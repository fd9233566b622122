# SPDX-License-Identifier: Apache-2.0
"""How a lookup of a model reports its progress."""

from collections.abc import Callable

Progress = Callable[[str, int, int], None]
"""Called with the phase, ``resolve`` or ``download``, the bytes of the model's files that are there, and the
bytes of all its files; both are 0 while they are unknown."""
