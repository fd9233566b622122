# SPDX-License-Identifier: Apache-2.0
"""Removes secrets from URLs for messages."""

import re
from urllib.parse import parse_qsl, urlsplit

from dynamo_llm.runtime.secret import HIDDEN, Secret

#: A URL with a scheme, or at least a host and a port.
_usual = re.compile(
    r"([A-Za-z][A-Za-z0-9+.-]*://([^/?#@\s:\[\]]+|\[[0-9a-fA-F:.]+\])(:\d{1,5})?|[a-z0-9.-]{1,64}:\d{1,5})"
    r"(?=$|[/?#])(/[^?#]*)?"
)


def shown_url(url: str) -> str:
    """Returns a URL as messages may show it: scheme, host, and path, without user and password. A query and a
    fragment become ``***``, and so does a text that is not a URL.
    """
    without_user = re.sub(r"^([A-Za-z][A-Za-z0-9+.-]*://)[^/]*@", r"\1", url, flags=re.S)
    found = _usual.match(without_user)
    if found is None or "@" in without_user:
        return HIDDEN
    rest = without_user[found.end() :]
    return f"{found[0]}{rest[:1] + HIDDEN if rest else ''}"


def secrets_of(url: str) -> list[Secret]:
    """Returns the parts of a URL that may be secrets: user, password, fragment, values of the query."""
    try:
        parts = urlsplit(url)
        values = [
            parts.username,
            parts.password,
            parts.fragment,
            *(value for _, value in parse_qsl(parts.query)),
        ]
    except ValueError:
        return [Secret(url)]
    return [Secret(value) for value in values if value]
