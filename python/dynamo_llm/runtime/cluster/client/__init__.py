# SPDX-License-Identifier: Apache-2.0
"""Sends requests to the models and endpoints of a cluster."""
