# SPDX-License-Identifier: Apache-2.0
"""Programs whose standard library is patched for greenlets get an error at once, instead of a hang."""

import pytest
from conftest import run_python

pytest.importorskip("gevent", reason="gevent is not installed")

patches = [
    "patch_all()",
    "patch_all(thread=False)",
    "patch_all(thread=False, select=False)",
    "patch_socket()",
    "patch_thread()",
]


@pytest.mark.parametrize("patch", patches)
def test_patched(patch: str) -> None:
    """A Python engine is rejected; a native one works."""
    result = run_python(f"""
from gevent import monkey
monkey.{patch}
import dynamo_llm
try:
    dynamo_llm.Runtime()
except dynamo_llm.DynamoError as error:
    print(error.status_name, "gevent has monkey-patched" in str(error))
with dynamo_llm.Runtime(engine="echo") as runtime:
    print(runtime.complete("a b").result().text)
""")
    assert (result.returncode, result.stdout) == (0, "DYNAMO_ERROR_PYTHON_UNAVAILABLE True\na b\n"), (
        result.stderr
    )


def test_not_patched() -> None:
    """Importing gevent without patching does no harm."""
    result = run_python("""
import gevent
from gevent import monkey
import dynamo_llm
with dynamo_llm.Runtime() as runtime:
    print(runtime.chat("What is prefill?", max_tokens=3).result().finish_reason)
""")
    assert (result.returncode, result.stdout) == (0, "length\n"), result.stderr
