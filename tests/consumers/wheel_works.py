# SPDX-License-Identifier: Apache-2.0
"""Asks the engine echo through an installed wheel; what cibuildwheel runs."""

import dynamo_llm

with dynamo_llm.Runtime(engine="echo") as runtime:
    text = runtime.complete("hello").result().text
if text != "hello":
    raise SystemExit(f"the engine echo answered {text!r}")
