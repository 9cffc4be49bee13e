"""How pixseek speaks with a person: the commands, and how their answers look. `cli` puts them together.

Only here and in `cli` is anything printed, the environment read, or the process ended. Reading order:
`program` (which commands there are), `terminal` (names that cannot steer a terminal, lines, JSON, progress),
`interrupts` (Ctrl-C), `choices` (options that commands share). Asking: `questions` (a command line to a
query), `answers` (hits as lines, JSON, CSV; why there are none), `preview` (thumbnails in a terminal),
`sheets` (contact sheets), `exports` (copies and links, the desktop's viewer), `delivery` (where an answer
goes), `asking` (`search`, `similar`), `concepts`; `resident` (a helper that keeps open what a question
needs), `serving` (the command that starts it). The index: `indexing`, `upkeep`. Tidying up: `cleaning`
(`duplicates`). Encoders: `workbench` (`caption`, `evaluate`), `workshop` (`train`, `finetune`).
"""
