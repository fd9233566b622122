# SPDX-License-Identifier: Apache-2.0
"""Selects workers for requests that the caller sends itself."""
