"""One string to a `Query` and back; docs/queries.md is its grammar.

Reading order: `syntax` (names, weights, quotes, the error), `lexer` (a typed query to tokens), `dates` and
`conditions` (the value of a field to a filter), `parsing` (`parse`, `parse_filter`), `printing`
(`print_query`, `print_filter`), `composing` (`compose_query`: the words and options of a command line).
"""
