"""What a network, a proxy or an overloaded Webex does to a request."""

import asyncio
import json
import socket
import struct
import sys
from collections.abc import Callable

from aiohttp import web

from .switches import parse_fault

_HUGE_BYTES = 10 * 1024 * 1024
_CAPTIVE_PORTAL = """<!DOCTYPE html><html><head><title>Guest network</title></head>
<body><h1>Welcome</h1><p>Accept the terms of use to go online.</p></body></html>"""
_GATEWAY_TEXTS = {
    "502": "upstream connect error or disconnect/reset before headers",
    "503": "no healthy upstream",
    "504": "upstream request timeout",
}


async def misbehave(
    request: web.Request,
    fault: str,
    answer: Callable[[], web.Response],
    *,
    retry_after: str,
    stopping: asyncio.Event,
) -> web.StreamResponse:
    """Do to a request what `fault` says; `answer` processes it and returns what would have been sent."""
    name, argument = parse_fault(fault)
    match name:
        case "hang":
            await stopping.wait()
            return reset(request)
        case "reset":
            return reset(request)
        case "lost_answer":
            answer()
            return reset(request)
        case "reset_body":
            return await _send_half_and_reset(request, answer())
        case "slow":
            return await _send_slowly(request, answer(), float(argument or 5), stopping)
        case "truncated":
            whole = answer()
            body = _body(whole)
            return web.Response(status=whole.status, body=body[: len(body) // 2], content_type=whole.content_type)
        case "429":
            wait = retry_after if argument is None else argument
            return web.Response(
                status=429,
                text="<html><body><h1>429 Too Many Requests</h1></body></html>",
                content_type="text/html",
                headers={"Retry-After": wait} if wait else None,
            )
        case "500":
            unexpected = {
                "error_description": "The server encountered an unexpected condition that prevented it from "
                "fulfilling the request.",
                "error": "Internal Server Error",
            }
            return web.json_response(unexpected, status=500)
        case "empty400":
            return web.Response(status=400)
        case "html":
            return web.Response(text=_CAPTIVE_PORTAL, content_type="text/html")
        case "huge":
            return web.json_response(text=json.dumps({"padding": "x" * _HUGE_BYTES}))
        case _:
            return web.Response(status=int(name), text=_GATEWAY_TEXTS[name])


def reset(request: web.Request) -> web.Response:
    """End the connection with a TCP RST; return a response for aiohttp, which will not reach anyone."""
    if request.transport is not None:
        # No lingering at all is what turns the close into a reset; the pair is two ints, on Windows shorts.
        at_once = struct.pack("hh" if sys.platform == "win32" else "ii", 1, 0)
        sock = request.transport.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, at_once)
        request.transport.abort()
    return web.Response(status=500)


async def pause(seconds: float, stopping: asyncio.Event) -> None:
    """Sleep, but no longer than the sandbox lives."""
    if seconds > 0:
        try:
            await asyncio.wait_for(stopping.wait(), seconds)
        except TimeoutError:
            return


async def _send_half_and_reset(request: web.Request, whole: web.Response) -> web.StreamResponse:
    body = _body(whole)
    response = await _begin(request, whole)
    await response.write(body[: len(body) // 2])
    await asyncio.sleep(0.05)  # so that the half is on its way
    reset(request)
    return response


async def _send_slowly(
    request: web.Request, whole: web.Response, seconds: float, stopping: asyncio.Event
) -> web.StreamResponse:
    body = _body(whole)
    response = await _begin(request, whole)
    drop = -(-len(body) // 10)
    for start in range(0, len(body), drop):
        await pause(seconds / 10, stopping)
        await response.write(body[start : start + drop])
    return response


async def _begin(request: web.Request, whole: web.Response) -> web.StreamResponse:
    response = web.StreamResponse(status=whole.status)
    response.content_type = whole.content_type
    response.content_length = len(_body(whole))
    await response.prepare(request)
    return response


def _body(response: web.Response) -> bytes:
    body = response.body
    return body if isinstance(body, bytes) else b""
