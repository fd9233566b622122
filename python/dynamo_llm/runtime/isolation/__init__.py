# SPDX-License-Identifier: Apache-2.0
"""Engines in a child process: ``"isolation": "process"`` of the configuration (docs/isolation.md)."""
