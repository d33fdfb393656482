"""One process that wants a token: waits for the start, asks in many ways at once, prints what it got.

Arguments: the file whose coming is the start, the number of threads, the number of tasks.
"""

import asyncio
import json
import os
import sys
import threading
import time

from webex_loopback import aget_token, get_token


def main() -> None:
    start, threads, tasks = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    got: list[str] = []

    def ask() -> None:
        got.append(get_token())

    async def ask_all() -> None:
        got.extend(await asyncio.gather(*(aget_token() for _ in range(tasks))))

    workers = [threading.Thread(target=ask) for _ in range(threads)]
    workers.append(threading.Thread(target=lambda: asyncio.run(ask_all())))
    print("ready", flush=True)
    while not os.path.exists(start):
        time.sleep(0.001)
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    print(json.dumps(got))


if __name__ == "__main__":
    main()
