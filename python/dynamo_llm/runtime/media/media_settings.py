# SPDX-License-Identifier: Apache-2.0
"""The configuration's settings for images and audio in requests."""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dynamo_llm.errors import InvalidConfigError
from dynamo_llm.runtime.secret import shown_value

#: A name or an address of a host.
_host = re.compile(r"[A-Za-z0-9._-]{1,253}|[0-9A-Fa-f:.]{2,45}")


@dataclass(frozen=True, slots=True)
class MediaSettings:
    """The configuration's settings for images and audio in requests."""

    allow_files: tuple[str, ...] = ()
    """Absolute paths of the folders whose files requests may name as file URLs."""
    allow_network: bool = False
    """Whether requests may name http and https URLs of hosts with public addresses."""
    allow_hosts: tuple[str, ...] = ()
    """Hosts whose URLs requests may name, also if their addresses are not public."""
    max_bytes: int = 41943040
    """Maximum size of one image or audio in bytes, decoded from base64."""
    max_parts: int = 64
    """Maximum number of images and audio in a request."""
    timeout_ms: int = 30000
    """Time limit in milliseconds for one download."""

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> "MediaSettings":
        """Reads the settings from a runtime's configuration, whose keys and types were checked before.

        :raises InvalidConfigError: a folder is not an absolute path, or a host is not a name.
        """
        given = dict(config.get("media", {}))
        folders, hosts = given.pop("allow_files", ()), given.pop("allow_hosts", ())
        for folder in folders:
            if not os.path.isabs(folder):
                raise InvalidConfigError(
                    f'"media.allow_files" of the configuration must have absolute paths of folders, not '
                    f'"{folder}"'
                )
        for host in hosts:
            if not _host.fullmatch(host):
                raise InvalidConfigError(
                    '"media.allow_hosts" of the configuration must have names or addresses of hosts, such as '
                    f'"example.com", without scheme, port, and path, not {shown_value(host)}'
                )
        return cls(tuple(map(os.path.normpath, folders)), allow_hosts=tuple(map(str.lower, hosts)), **given)
