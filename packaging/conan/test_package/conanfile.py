# SPDX-License-Identifier: Apache-2.0
"""Builds and runs a program in C and one in C++ with the package."""

from pathlib import Path

from conan import ConanFile
from conan.tools.build import can_run
from conan.tools.cmake import CMake, CMakeToolchain, cmake_layout


class TestPackage(ConanFile):
    settings = ("os", "compiler", "build_type", "arch")
    generators = ("CMakeDeps",)

    def requirements(self) -> None:
        self.requires(self.tested_reference_str)

    def layout(self) -> None:
        cmake_layout(self)

    def generate(self) -> None:
        toolchain = CMakeToolchain(self)
        toolchain.user_presets_path = False  # no file into this folder
        toolchain.generate()

    def build(self) -> None:
        cmake = CMake(self)
        cmake.configure()
        cmake.build()

    def test(self) -> None:
        if can_run(self):
            for program in ("ask_c", "ask_c_static", "ask_cpp"):
                self.run(str(Path(self.build_folder, self.cpp.build.bindir, program)), env="conanrun")
