# SPDX-License-Identifier: Apache-2.0
"""Stands in for nlohmann_json of ConanCenter, without a remote: the headers of PyPI's nlohmann-json."""

import importlib.util
from pathlib import Path

from conan import ConanFile
from conan.tools.files import copy


class NlohmannJson(ConanFile):
    name = "nlohmann_json"
    version = "3.11.3"
    package_type = "header-library"
    no_copy_source = True

    def package(self) -> None:
        spec = importlib.util.find_spec("nlohmann_json")
        assert spec is not None and spec.origin is not None
        headers = str(Path(spec.origin).parent / "include")
        copy(self, "*", headers, str(Path(self.package_folder, "include")))

    def package_info(self) -> None:
        self.cpp_info.set_property("cmake_file_name", "nlohmann_json")
        self.cpp_info.set_property("cmake_target_name", "nlohmann_json::nlohmann_json")
        self.cpp_info.bindirs = self.cpp_info.libdirs = []
