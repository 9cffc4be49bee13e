"""A resident helper: a process that keeps what a question needs open, and answers in the place of others.

Reading order: `protocol` (what both sides say, and what must be the same on both for an answer to be the
same), `client` (in every `pixseek search`: hand over, or do it oneself), `server` (who listens, hands
questions to workers and ends them), `worker` (answers one question after another with the streams of whoever
asked), `kept` (index, encoder and searcher that stay open between two questions).

`client` and `protocol` are imported before anything else is: they import next to nothing.
"""
