# SPDX-License-Identifier: Apache-2.0
"""Runs engines written for Python: the loop thread, their instances, their requests."""

owns_python = False
"""Whether the library started Python, in a program that does not run Python itself; :mod:`host` sets it."""
