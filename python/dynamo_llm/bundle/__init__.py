# SPDX-License-Identifier: Apache-2.0
"""Copies a program, the library, Python, engines, and a model into one folder that can be moved."""
