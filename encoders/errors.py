"""The root of pixseek's errors, and the encoders' branch.

PixseekError                      every error a person may see; `cli` maps each class to an exit code
  EncoderError                    12
    EncoderUnavailableError       12  weights are not on this machine and cannot be fetched
    EncoderDamagedError           12  weights do not match their checksum, or cannot be read
    RuntimeUnavailableError       12  a runtime cannot run an encoder here, or disagrees
    EncoderMismatchError          12  the index was made with another encoder
  UsageError                       2  the question itself is wrong (a query picture, a limit, a spec)

The indexer's branch is in `indexer.errors`. Messages end with the next thing to type.
"""

from __future__ import annotations


class PixseekError(Exception):
    """Base of every error whose message is meant for a person."""


class UsageError(PixseekError):
    """What was asked for is malformed; the message says what would be right."""


class EncoderError(PixseekError):
    """An encoder cannot be used."""


class EncoderUnavailableError(EncoderError):
    """The weights are not on this machine and cannot be fetched.

    Args:
        spec: what was asked for.
        why: one clause.
        remedy: what to type, or which file to put where.
    """

    def __init__(self, spec: str, why: str, remedy: str) -> None:
        self.spec, self.why, self.remedy = spec, why, remedy
        super().__init__(f"encoder {spec!r} is not available: {why}; {remedy}")


class EncoderDamagedError(EncoderError):
    """A weights file is cut, altered or not what its name says.

    Args:
        path: the file.
        why: one clause.
        remedy: what to do.
    """

    def __init__(self, path: str, why: str, remedy: str = "delete it and fetch it again") -> None:
        self.path, self.why, self.remedy = path, why, remedy
        super().__init__(f"encoder file damaged: {path}: {why}; {remedy}")


class RuntimeUnavailableError(EncoderError):
    """A runtime that was asked for cannot run an encoder here.

    Args:
        spec: the encoder.
        runtime: what was asked for.
        why: one clause.
        remedy: what to type.
    """

    def __init__(self, spec: str, runtime: str, why: str, remedy: str) -> None:
        self.spec, self.runtime, self.why, self.remedy = spec, runtime, why, remedy
        super().__init__(f"encoder {spec!r} cannot run with {runtime}: {why}; {remedy}")


class EncoderMismatchError(EncoderError):
    """The index holds embeddings of another encoder; mixing them would give wrong answers."""

    def __init__(
        self, index_spec: str, index_fingerprint: str, asked_spec: str, asked_fingerprint: str
    ) -> None:
        self.index_spec, self.index_fingerprint = index_spec, index_fingerprint
        self.asked_spec, self.asked_fingerprint = asked_spec, asked_fingerprint
        made, asked = index_fingerprint[:12], asked_fingerprint[:12]
        if index_spec == asked_spec:
            message = (
                f"index made with {index_spec} ({made}), whose weights have changed since ({asked}); bring "
                "the old ones back, or make a new index: pixseek index FOLDER --index DIR"
            )
        else:
            message = (
                f"index made with {index_spec} ({made}), asked for {asked_spec} ({asked}); "
                f"use --encoder {index_spec}, or another --index for {asked_spec}"
            )
        super().__init__(message)
