# SPDX-License-Identifier: Apache-2.0
"""NVIDIA Dynamo's cluster: what its clients, workers and routers share."""
