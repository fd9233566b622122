# SPDX-License-Identifier: Apache-2.0
"""The engines that come with the package, one a module."""
