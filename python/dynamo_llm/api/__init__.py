# SPDX-License-Identifier: Apache-2.0
"""What programs in Python call; everything here is on :mod:`dynamo_llm` itself."""
