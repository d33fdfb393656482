"""Faults: failures of a network, a proxy or an overloaded Webex."""

import asyncio
import json
import socket
import struct
import sys
from collections.abc import Callable

from aiohttp import web

from .answers import DEAD_REFRESH_TOKEN, SERVER_ERROR, Refused, tracking_id
from .switches import Switches, parse_fault

_PORTAL = "<html><title>Guest network</title><h1>Welcome</h1><p>Accept the terms of use to go online.</p></html>"
_PROXY_ERROR = (
    "<html><title>{0} Proxy Error</title><h1>{0} Proxy Error</h1><p>Invalid response from upstream.</p></html>"
)
_GATEWAY_TEXTS = {
    "423": "The resource is locked.",
    "502": "upstream connect error or disconnect/reset before headers",
    "503": "no healthy upstream",
    "504": "upstream request timeout",
}

Answer = Callable[[], web.Response]  # processes the request and returns the answer


async def misbehave(
    request: web.Request, fault: str, answer: Answer, switches: Switches, stopping: asyncio.Event
) -> web.StreamResponse:
    """Apply a fault to a request."""
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
            whole = answer()
            count = int(argument) if argument else len(_body(whole)) // 2
            response = await _send(request, whole, [_body(whole)[:count]], 0, stopping)
            await asyncio.sleep(0.05)  # an RST discards what has not been delivered yet
            reset(request)
            return response
        case "slow":
            whole = answer()
            size = -(-len(_body(whole)) // 10)
            pieces = [_body(whole)[size * n : size * (n + 1)] for n in range(10)]
            return await _send(request, whole, pieces, float(argument or 5) / 10, stopping)
        case "drip":
            whole = answer()
            pieces = [bytes([byte]) for byte in _body(whole)]
            return await _send(request, whole, pieces, float(argument or 0.1), stopping)
        case "truncated":
            whole = answer()
            half = _body(whole)[: len(_body(whole)) // 2]
            return web.Response(status=whole.status, body=half, content_type=whole.content_type)
        case "link":
            response = answer()
            response.headers["Link"] = f'<{argument}>; rel="next"'
            return response
        case "redirect":
            return web.Response(status=307, headers={"Location": argument or ""})
        case _:
            return _instead(name, argument, switches)


def _instead(name: str, argument: str | None, switches: Switches) -> web.Response:
    """Return the answer of a fault for which the request is not processed."""
    retry_after = switches.retry_after if name == "429" and argument is None else argument
    headers = {"Retry-After": retry_after} if retry_after else None
    match name:
        case "429":
            html = "<html><h1>429 Too Many Requests</h1></html>"
            return web.Response(status=429, text=html, content_type="text/html", headers=headers)
        case "500":
            return web.json_response({"error_description": SERVER_ERROR, "error": "Internal Server Error"}, status=500)
        case "empty400":
            return web.Response(status=400)
        case "error":
            status, _, code = (argument or "400:server_error").partition(":")
            # The identity broker is reported to use invalid_request for a dead refresh token.
            refused = Refused(int(status), code, DEAD_REFRESH_TOKEN if code == "invalid_request" else "")
            return refusal(refused, switches.error_shape)
        case "gateway401":
            return gateway_401()
        case "html":
            status = argument or "200"
            page = _PORTAL if int(status) < 400 else _PROXY_ERROR.format(status)
            return web.Response(status=int(status), text=page, content_type="text/html")
        case "huge":
            return web.json_response(text=json.dumps({"padding": "x" * 10 * 1024 * 1024}))
        case _:
            return web.Response(status=int(name), text=_GATEWAY_TEXTS[name], headers=headers)


def gateway_401() -> web.Response:
    """Return the answer of the API gateway to a path that it does not know."""
    tracking = tracking_id("ROUTERGW")
    body = {"message": Refused(401).message, "trackingId": tracking}
    return web.json_response(body, status=401, headers={"trackingId": tracking})


def refusal(refused: Refused, shape: int) -> web.Response:
    """Return the JSON answer for an error."""
    tracking = tracking_id()
    headers = {"Cache-Control": "no-store", "Pragma": "no-cache", "trackingId": tracking}
    return web.json_response(refused.body(tracking, shape), status=refused.status, headers=headers)


def reset(request: web.Request) -> web.Response:
    """End the connection with a TCP RST. aiohttp requires the response, but it is not sent."""
    if request.transport is not None:
        # A linger time of 0 turns close into reset. The struct holds two ints, on Windows two shorts.
        no_linger = struct.pack("hh" if sys.platform == "win32" else "ii", 1, 0)
        request.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, no_linger)
        request.transport.abort()
    return web.Response(status=500)


async def pause(seconds: float, stopping: asyncio.Event) -> None:
    """Sleep until the time is up or the sandbox stops."""
    if seconds > 0:
        try:
            await asyncio.wait_for(stopping.wait(), seconds)
        except TimeoutError:
            return


async def _send(
    request: web.Request, whole: web.Response, pieces: list[bytes], seconds: float, stopping: asyncio.Event
) -> web.StreamResponse:
    """Send the head of a response, then pieces of its body with a pause before each."""
    response = web.StreamResponse(status=whole.status)
    response.content_type = whole.content_type
    response.content_length = len(_body(whole))
    await response.prepare(request)
    for piece in pieces:
        await pause(seconds, stopping)
        await response.write(piece)
    return response


def _body(response: web.Response) -> bytes:
    return response.body if isinstance(response.body, bytes) else b""
