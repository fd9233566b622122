# SPDX-License-Identifier: Apache-2.0
"""Serves an engine of this library to a cluster, and publishes its KV events."""
