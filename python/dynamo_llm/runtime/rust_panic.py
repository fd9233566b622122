# SPDX-License-Identifier: Apache-2.0
"""Recognizes panics of packages written in Rust."""


def is_rust_panic(error: BaseException) -> bool:
    """Whether an exception is a Rust panic. Its class derives from BaseException and cannot be imported."""
    return type(error).__name__ == "PanicException"
