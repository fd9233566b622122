# SPDX-License-Identifier: Apache-2.0
"""NVIDIA Dynamo clusters: :mod:`client` sends requests, :mod:`worker` serves an engine, :mod:`router` selects
workers. The modules beside them are what these three share.
"""
