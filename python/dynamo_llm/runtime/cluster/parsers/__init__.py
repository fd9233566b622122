# SPDX-License-Identifier: Apache-2.0
"""Runs NVIDIA Dynamo's parsers of tool calls and reasoning."""
