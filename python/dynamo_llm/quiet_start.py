# SPDX-License-Identifier: Apache-2.0
"""Ends the command ``dynamo-llm`` quietly if Ctrl-C is pressed while Python imports it.

It imports next to nothing, because until then Python prints a traceback. A handler, not ``except``: the
interrupt may also arrive in Python's own code that runs a module, or in a module of C, which turns it into
an ImportError.
"""

import os
import signal
import sys
from types import FrameType

_INTERRUPTED = 130
"""The exit code that a shell reports for a program ended by SIGINT."""


def _exit(_signal: int, _frame: FrameType | None) -> None:
    os._exit(_INTERRUPTED)  # nothing has been written that would have to be flushed


def _is_command() -> bool:
    # An embedded Python may have neither.
    module, program = getattr(sys, "orig_argv", [])[1:3], getattr(sys, "argv", [])[:1]
    return module == ["-m", "dynamo_llm"] or [os.path.basename(word) for word in program] == ["dynamo-llm"]


def end() -> None:
    """Makes Ctrl-C raise KeyboardInterrupt again, as in every other program."""
    if signal.getsignal(signal.SIGINT) is _exit:
        signal.signal(signal.SIGINT, signal.default_int_handler)


if _is_command() and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, _exit)
