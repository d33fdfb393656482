"""Asks for a token at each line that comes in; its signal handlers raise. `ringing.py get|aget stay|leave`"""

import asyncio
import contextlib
import signal
import sys
import traceback

from webex_loopback import aget_token, get_token
from webex_loopback.tokens import source

armed = False


class Bell(Exception): ...


def ring(number: int, frame: object) -> None:
    global armed
    if armed:
        armed = False
        raise Bell(number)


for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
    signal.signal(number, ring)
for _ in sys.stdin:
    source.forget()
    answer = "token"
    try:
        try:
            armed = True
            print("asking", flush=True)
            if sys.argv[1] == "get":
                get_token()
            else:
                asyncio.run(aget_token())
        finally:
            armed = False
    except Exception as bell:  # a Bell, or what asyncio makes of it if it rings in the event loop's own code
        with contextlib.suppress(AssertionError):  # from the repr of a thread that was being made
            print(*traceback.TracebackException.from_exception(bell, capture_locals=True).format(), file=sys.stderr)
        if sys.argv[2] == "leave":  # it ends the program, as it does one that knows nothing of tokens
            raise
        answer = "bell"
    print(answer, flush=True)
