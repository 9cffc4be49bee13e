"""What a question reads of the index while its words go through the encoder."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from search.query import Term, Text

if TYPE_CHECKING:
    from indexer import Filter, Selection
    from search.aims import Embedding


class Readable(Protocol):
    """The part of `indexer.Index` that needs no embedding of the question, and remembers what it answered."""

    def select(self, where: Filter | None) -> Selection: ...
    def sample(self, size: int = ...) -> Embedding: ...
    def matching_words(self, words: str, k: int, among: Selection | None = None) -> Sequence[Any]: ...


@contextlib.contextmanager
def read_ahead(index: Readable, where: Filter | None, words: str) -> Iterator[None]:
    """Have the index read in two threads what the question will ask it for; wait for that at the end.

    SQLite, FAISS and onnxruntime work without Python's lock, so that a first question takes as long as the
    longest of the three. What fails here fails again where it is asked for.
    """

    def read() -> None:
        with contextlib.suppress(Exception):
            among = index.select(where)
            with _meanwhile(read_words, among):
                index.sample()

    def read_words(among: Selection) -> None:
        with contextlib.suppress(Exception):
            if words:
                index.matching_words(words, 1, among)

    with _meanwhile(read):
        yield


@contextlib.contextmanager
def _meanwhile(work: Callable[..., None], *arguments: object) -> Iterator[None]:
    """Have a thread do some work, and wait for it."""
    thread = threading.Thread(target=work, args=arguments, name=f"pixseek-{work.__name__}")
    thread.start()
    try:
        yield
    finally:
        thread.join()


def asked_words(terms: Sequence[Term]) -> str:
    """Return the words that `ranking.Question` looks for in captions, keywords and names, in their order."""
    wanted = (term for term in terms if not term.excluded and term.weight > 0)
    return " ".join(dict.fromkeys(term.part.words for term in wanted if isinstance(term.part, Text)))
