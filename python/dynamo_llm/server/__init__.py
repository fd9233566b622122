# SPDX-License-Identifier: Apache-2.0
"""An HTTP server with OpenAI's endpoints over a runtime: ``dynamo-llm serve --http``.

It uses the public Python API only, so that a request over HTTP gets the answer and the error that a program
gets. It is above ``api`` and below ``cli``, and needs the extra ``serve``: Starlette and uvicorn.
"""
