"""One question as a whole process on indexes of N pictures: `pixseek search` beside `rclip -n`.

Cold means a new process: nothing is dropped from the machine's page cache, for either.
"""

from __future__ import annotations

from tests.benchmarks.suite import environments, libraries, machine, weights
from tests.benchmarks.suite.results import Round, Store
from tests.benchmarks.suite.settings import Sizes

QUESTION = "a dog on a beach"


def measure(sizes: Sizes, store: Store) -> None:
    """Measure every size, the two in turn."""
    weights.make()
    store.write("environment-rclip", {"found": environments.make("rclip", environments.RCLIP)})
    for rows in sizes.libraries:
        index = libraries.make(sizes, rows)
        data, photos = libraries.rclip_library(sizes, rows)

        def once(number: int, index=index, data=data, photos=photos) -> Round:  # type: ignore[no-untyped-def]
            result: Round = {}
            turns = ("pixseek", "rclip") if number % 2 else ("rclip", "pixseek")
            for name in turns:
                try:
                    if name == "pixseek":
                        ran = machine.pixseek("search", QUESTION, "--index", index)
                    else:
                        ran = machine.run(
                            [environments.rclip_command(), "-n", QUESTION],
                            environ={"RCLIP_DATADIR": str(data), "HF_HUB_OFFLINE": "1"},
                            cwd=photos,
                        )
                    result[name] = ran.numbers()
                except RuntimeError as error:
                    result[name] = {"failed": str(error)}
            return result

        once(0)  # the files come into the page cache, and bytecode is written
        rounds = store.rounds(f"cold-{rows}", sizes.rounds, once)
        print(f"cold {rows:,}: {len(rounds)} rounds", flush=True)
