# SPDX-License-Identifier: Apache-2.0
"""Runs engines written for Python: the loop thread, their instances, their requests."""
