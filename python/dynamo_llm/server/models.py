# SPDX-License-Identifier: Apache-2.0
"""The models of a server."""

from typing import Any

from starlette.requests import Request as HttpRequest
from starlette.responses import Response

from dynamo_llm.api.runtime import Runtime
from dynamo_llm.errors import ModelNotFoundError
from dynamo_llm.printable import dump_json
from dynamo_llm.runtime.threads import in_pool


class Models:
    """Lists the models of a runtime, and finds one by its name."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime

    async def all(self) -> list[dict[str, Any]]:
        """Returns the models as :meth:`Runtime.models` describes them."""
        return await in_pool(self._runtime.models)  # it may wait for an engine

    async def find(self, name: str | None) -> dict[str, Any]:
        """Returns a model. As for requests, the name of a single model does not matter.

        :param name: the model's name; None for the first.
        :raises ModelNotFoundError: there are several models, and none has this name.
        """
        models = await self.all()
        if models and (name is None or len(models) == 1):
            return models[0]
        return self._named(models, name)

    async def list_all(self, _request: HttpRequest) -> Response:
        """Handles ``GET /v1/models``."""
        return _json({"object": "list", "data": [_public(model) for model in await self.all()]})

    async def show(self, request: HttpRequest) -> Response:
        """Handles ``GET /v1/models/{name}``."""
        return _json(_public(self._named(await self.all(), request.path_params["name"])))

    @staticmethod
    def _named(models: list[dict[str, Any]], name: str | None) -> dict[str, Any]:
        for model in models:
            if name == model["id"]:
                return model
        known = ", ".join(f'"{model["id"]}"' for model in models[:20]) or "none at present"
        raise ModelNotFoundError(f'the model "{name}" does not exist; models of this server: {known}')


def _public(model: dict[str, Any]) -> dict[str, Any]:
    """Leaves out where the model lies on this machine, which is not a client's business."""
    return {key: value for key, value in model.items() if key != "path"}


def _json(value: Any) -> Response:
    return Response(dump_json(value).encode(), media_type="application/json")
