"""Our part: what each peer file shows of its library. The names that the bench knows are explained in `work`."""

from collections.abc import Awaitable, Callable

from webex_loopback import aget_token, get_token


def ready() -> Callable[[], str]:
    return get_token


def ready_async() -> Callable[[], Awaitable[str]]:
    return aget_token
