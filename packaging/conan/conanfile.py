# SPDX-License-Identifier: Apache-2.0
"""The Conan package of the C and C++ library: conan create packaging/conan"""

import re
from pathlib import Path

from conan import ConanFile
from conan.tools.build import check_min_cppstd
from conan.tools.cmake import CMake, CMakeDeps, CMakeToolchain, cmake_layout
from conan.tools.files import copy

required_conan_version = ">=2.0"

#: What the library is built from, in the folder of the repository.
sources = ("CMakeLists.txt", "cmake/*", "cpp/*", "include/*", "LICENSE", "THIRD_PARTY_NOTICES.txt")


class DynamoLlm(ConanFile):
    name = "dynamo-llm"
    license = "Apache-2.0"
    description = (
        "LLM inference for C and C++ through one library, with engines in the process or across a cluster"
    )
    topics = ("llm", "inference", "c", "streaming")
    # It contains the static library, too: DynamoLLM::capi_static.
    package_type = "shared-library"
    settings = ("os", "compiler", "build_type", "arch")

    def set_version(self) -> None:
        header = Path(self.recipe_folder, "..", "..", "include", "dynamo_llm.h").read_text(encoding="utf-8")
        found = re.search(r'#define DYNAMO_LLM_VERSION_STRING "(.*)"', header)
        assert found is not None
        self.version = self.version or found[1]

    def export_sources(self) -> None:
        root = str(Path(self.recipe_folder, "..", "..").resolve())
        for pattern in sources:
            copy(self, pattern, root, self.export_sources_folder)

    def requirements(self) -> None:
        # Its headers are compiled in; programs that use the library do not need them.
        self.requires("nlohmann_json/[>=3.11.3 <4]", visible=False)

    def validate(self) -> None:
        if self.settings.get_safe("compiler.cppstd"):
            check_min_cppstd(self, 17)  # of programs; the library itself is compiled as C++20

    def layout(self) -> None:
        cmake_layout(self)

    def generate(self) -> None:
        toolchain = CMakeToolchain(self)
        # The Python module and the tests belong to an installation with pip.
        toolchain.cache_variables["DYNAMO_LLM_PYTHON"] = False
        toolchain.cache_variables["DYNAMO_LLM_TESTS"] = False
        toolchain.generate()
        CMakeDeps(self).generate()

    def build(self) -> None:
        cmake = CMake(self)
        cmake.configure()
        cmake.build()

    def package(self) -> None:
        CMake(self).install()
        for name in ("LICENSE", "THIRD_PARTY_NOTICES.txt"):
            copy(self, name, self.source_folder, str(Path(self.package_folder, "licenses")))

    def package_info(self) -> None:
        # find_package(DynamoLLM) reads the package's own files, with the same targets as everywhere else.
        self.cpp_info.set_property("cmake_find_mode", "none")
        self.cpp_info.builddirs = [str(Path("lib", "cmake", "DynamoLLM"))]
        self.cpp_info.set_property("pkg_config_name", "dynamo_llm_capi")
        self.cpp_info.libs = ["dynamo_llm_capi"]
