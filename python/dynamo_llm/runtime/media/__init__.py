# SPDX-License-Identifier: Apache-2.0
"""Images and audio in the messages of chats: finds, fetches, and checks them."""
