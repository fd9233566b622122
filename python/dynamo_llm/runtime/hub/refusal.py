# SPDX-License-Identifier: Apache-2.0
"""Turns exceptions of huggingface_hub into errors that say what is wrong and what would be right."""

import difflib
import logging
import os
import re
from collections.abc import Callable
from typing import Any

from dynamo_llm.errors import DynamoError, ModelNotFoundError, SystemFailedError, UnavailableError
from dynamo_llm.runtime.secret import Secret, redact
from dynamo_llm.runtime.urls import secrets_of, shown_url

_log = logging.getLogger("dynamo_llm.hub")

_most_of_message = 300
_most_revisions = 20
_most_repositories = 5
_most_of_author = 200


class AnswerError(Exception):
    """An answer of the hub is not valid. The message says what about it."""


class UnreachableError(UnavailableError):
    """The hub does not answer; a model in the cache may serve in its place."""


class Refusal:
    """Explains why a model cannot be had.

    :param hub: the module huggingface_hub.
    """

    def __init__(self, hub: Any, name: str, repository: str, revision: str) -> None:
        self._hub = hub
        self._name = name
        self._repository = repository
        self._revision = revision
        self._secrets = secrets_of(hub.constants.ENDPOINT)
        self._server = shown_url(hub.constants.ENDPOINT)
        self._page = f"{self._server}/{repository}"
        self._token: str | bool = False

    @property
    def token(self) -> str | bool:
        """The token that is sent; False for none. It is redacted from all texts of this process."""
        return self._token

    @token.setter
    def token(self, value: str | bool) -> None:
        self._token = value
        if isinstance(value, str):
            self._secrets.append(Secret(value))

    def _token_place(self) -> str:
        variables = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN")
        named = next((f"of {name}" for name in variables if os.environ.get(name)), None)
        return named or f'in the file "{self._hub.constants.HF_TOKEN_PATH}"'

    def stalled(self, reason: str) -> DynamoError:
        """Returns the error for a server that is too slow."""
        return UnavailableError(
            f'the model "{self._name}" could not be downloaded from {self._server}: {reason}; what is '
            f"complete stays in the cache: try again, or set HF_HUB_DOWNLOAD_TIMEOUT to more seconds"
        )

    def of(self, error: BaseException) -> DynamoError:
        """Returns the error for an exception."""
        chain = _chain(error)
        explanations: list[tuple[str, Callable[[], DynamoError]]] = [
            ("GatedRepoError", self._gated),
            ("DisabledRepoError", self._disabled),
            ("RevisionNotFoundError", self._no_revision),
            ("RemoteEntryNotFoundError", self._no_entry),
        ]
        for kind, explain in explanations:
            if any(is_of(one, kind) for one in chain):
                return explain()
        for one in chain:
            if isinstance(one, DynamoError):
                return one
            status = getattr(getattr(one, "response", None), "status_code", None)
            if isinstance(status, int) and status >= 400:
                return self._of_status(one, status)
        for one in chain:
            if is_of(one, "TransportError"):
                return UnreachableError(
                    f'the model "{self._name}" could not be downloaded, because {self._server} cannot be '
                    f"reached: {type(one).__name__}: {_short(one)}"
                )
            if isinstance(one, OSError) and one.errno is not None:
                return SystemFailedError(
                    f'the model "{self._name}" could not be saved: {one}; HF_HOME selects another folder'
                )
        kind = "" if isinstance(error, AnswerError) else f"{type(error).__name__}: "
        return UnavailableError(
            f'the model "{self._name}" could not be downloaded from {self._server}, whose answer is not '
            f"valid: {kind}{_short(error)}"
        )

    def _gated(self) -> DynamoError:
        if self._token is False:
            what = (
                f"and provide a token of that account: set HF_TOKEN, or run: hf auth login (tokens: "
                f"{self._server}/settings/tokens)"
            )
        else:
            what = (
                f"with the account whose token is {self._token_place()}. If they were accepted before, the "
                f"token may lack the permission to read gated repositories, or the authors have not granted "
                f"access yet"
            )
        return ModelNotFoundError(
            f'the repository "{self._repository}" is gated: accept its conditions at {self._page} {what}'
        )

    def _disabled(self) -> DynamoError:
        return ModelNotFoundError(f'the repository "{self._repository}" was disabled; see {self._page}')

    def _no_entry(self) -> DynamoError:
        return UnavailableError(
            f'a file that the repository "{self._repository}" lists is missing at {self._page}; try again'
        )

    def _no_revision(self) -> DynamoError:
        names: list[str] = []
        try:
            refs = self._api().list_repo_refs(self._repository)
            names = [str(ref.name) for ref in (*refs.branches, *refs.tags)]
        except Exception as error:  # the message is then shorter
            _log.debug("the revisions of %s could not be listed: %s", self._repository, error)
        shown = ", ".join(names[:_most_revisions])
        more = f", and {len(names) - _most_revisions} more" if len(names) > _most_revisions else ""
        known = f"it has: {shown}{more}" if names else f"see {self._page}/tree/main"
        return ModelNotFoundError(
            f'the repository "{self._repository}" has no revision "{self._revision}"; {known}'
        )

    def _of_status(self, error: Exception, status: int) -> DynamoError:
        # Without a token, the hub answers with 401 for repositories that do not exist, too.
        is_unknown = status == 404 or (status == 401 and self._token is False)
        if is_unknown or is_of(error, "RepositoryNotFoundError"):
            return self._no_repository()
        if status == 401:
            return ModelNotFoundError(
                f'the token {self._token_place()} is not accepted for the repository "{self._repository}": '
                f"it is wrong or has expired; get another at {self._server}/settings/tokens"
            )
        if status == 403:
            place = f" with the token {self._token_place()}" if self._token is not False else ""
            return ModelNotFoundError(
                f'access to the repository "{self._repository}" is forbidden{place}; see {self._page}'
            )
        said = getattr(error, "server_message", None)
        text = (
            f'the model "{self._name}" could not be downloaded: {self._server} answers with the HTTP status '
            f"{status}" + (f": {_short(Exception(said))}" if said else "")
        )
        return UnreachableError(text) if status >= 500 or status == 429 else UnavailableError(text)

    def _no_repository(self) -> DynamoError:
        found: list[str] = []
        try:
            author, _, word = self._repository.rpartition("/")
            api = self._api()
            listed = [*api.list_models(search=word, limit=_most_repositories)]
            listed += api.list_models(author=author, limit=_most_of_author) if author else []
            names = list(dict.fromkeys(str(model.id) for model in listed))
            found = difflib.get_close_matches(self._repository, names, _most_repositories, 0.5)
        except Exception as error:  # the message is then shorter
            _log.debug("repositories like %s could not be listed: %s", self._repository, error)
        known = f". Similar ones: {', '.join(found)}" if found else ""
        access = (
            "set HF_TOKEN or run hf auth login if it is private"
            if self._token is False
            else f"if it is private, use a token that may read it: the one {self._token_place()} may not"
        )
        return ModelNotFoundError(
            f'the Hugging Face Hub ({self._server}) has no repository "{self._repository}"; check the name, '
            f"and {access}{known}"
        )

    def _api(self) -> Any:
        return self._hub.HfApi(library_name="dynamo-llm", token=self._token)


def is_of(error: BaseException, name: str) -> bool:
    """Whether an exception is of a class of huggingface_hub or of its HTTP client, whose module differs
    between their versions.
    """
    return any(kind.__name__ == name for kind in type(error).__mro__)


def _chain(error: BaseException) -> list[Exception]:
    """An exception and those that led to it."""
    found: list[Exception] = []
    one: BaseException | None = error
    while isinstance(one, Exception) and one not in found:
        found.append(one)
        one = one.__cause__ or one.__context__
    return found


def _short(error: BaseException) -> str:
    """An exception's message on one line; of addresses without what may be a signature."""
    text = re.sub(
        r"https?://[^\s'\"<>]+", lambda found: shown_url(found[0].rstrip(".,)")), redact(str(error))
    )
    return " ".join(text.split())[:_most_of_message]
