"""The training room's branch of the error tree (root: `encoders.errors`).

UsageError            2
  DatasetError        2  pictures and words that cannot be read as a data set
"""

from __future__ import annotations

from encoders import UsageError


class DatasetError(UsageError):
    """A data set that is cut, malformed, empty or without words; the message says where and what next."""
