# SPDX-License-Identifier: Apache-2.0
"""An engine that says what Python it runs in, as JSON."""

import importlib
import json
import locale
import os
import sys
from typing import Any


class Reporter:
    """The prompt names modules to import; they are reported with their file or their error."""

    def __init__(self, config: Any) -> None: ...

    def start(self) -> None: ...

    def stop(self) -> None: ...

    def generate(self, request: Any) -> Any:
        modules = {}
        for name in request.body["prompt"].split():
            try:
                modules[name] = getattr(importlib.import_module(name), "__file__", None)
            except Exception as error:
                modules[name] = repr(error)
        yield {
            "text": json.dumps(
                {
                    "version": f"{sys.version_info[0]}.{sys.version_info[1]}",
                    "prefix": sys.prefix,
                    "base_prefix": sys.base_prefix,
                    "executable": sys.executable,
                    "path": sys.path,
                    "filesystem_encoding": sys.getfilesystemencoding(),
                    "encoding": locale.getpreferredencoding(False),
                    "encoded": os.fsencode("é").decode("latin-1"),
                    "modules": modules,
                    "text": "äöü €",
                },
                ensure_ascii=False,
            )
        }
