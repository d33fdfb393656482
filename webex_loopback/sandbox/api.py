"""A few resources of the REST API: people/me, rooms, messages, token expiry."""

import uuid
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode

from aiohttp import web

from .answers import Refused
from .registration import ROOMS, Tenant, webex_id
from .request import Call, single
from .tokens import Token, Tokens

_DESTINATIONS = ("roomId", "toPersonEmail", "toPersonId")
_NO_DESTINATION = (
    "Message destination could not be determined. Provide only one destination in the roomId, toPersonEmail, or "
    "toPersonId field"
)
_TOO_MANY_FILES = "Only one file can be attached to a message."


class Api:
    def __init__(self, tenant: Tenant, tokens: Tokens) -> None:
        self._tenant = tenant
        self._tokens = tokens
        self._messages: dict[str, dict[str, Any]] = {}

    def people_me(self, call: Call) -> dict[str, object]:
        return self._allowed(call, "spark:people_read").grant.account.as_person()

    def token_expiry(self, call: Call) -> dict[str, object]:
        return {"exp": int(self._tokens.authorize(call.bearer).expires_at * 1000)}

    def list_rooms(self, call: Call) -> web.Response:
        """Return one page of rooms, with the URL of the next one in the header Link (RFC 8288)."""
        account = self._allowed(call, "spark:rooms_read").grant.account
        query = single(call.http.query)
        try:
            most, first = int(query.get("max", "100")), int(query.get("cursor", "0"))
        except ValueError:
            raise Refused(400) from None
        if not 0 < most <= 1000 or first < 0:
            raise Refused(400)
        whose = {"creatorId": account.person_id, "lastActivity": self._now()}
        rooms = [{"id": _room_id(room["title"]), **room, **whose} for room in ROOMS[first : first + most]]
        response = web.json_response({"items": rooms})
        if first + most < len(ROOMS):
            following = urlencode(query | {"cursor": str(first + most)})
            response.headers["Link"] = f'<{self._tenant.base_url}/rooms?{following}>; rel="next"'
        return response

    def create_message(self, call: Call) -> dict[str, Any]:
        account = self._allowed(call, "spark:messages_write").grant.account
        if len(set(call.form)) < len(call.form):
            raise Refused(400, message=_TOO_MANY_FILES)
        fields = dict(call.body or call.form)
        files = self._files(fields.pop("files", None))
        given = {name: value for name, value in fields.items() if value}
        destinations = [name for name in _DESTINATIONS if name in given]
        if len(destinations) != 1:
            raise Refused(400, message=_NO_DESTINATION)
        if not (given.get("text") or given.get("markdown") or files):
            raise Refused(400, message="Both text and file cannot be empty.")
        if not all(isinstance(given[name], str) for name in (*_DESTINATIONS, "text", "markdown") if name in given):
            raise Refused(400)
        email = given.get("toPersonEmail")
        if email is not None and "@" not in str(email):
            raise Refused(404, message="Failed to find user with specified email address.")
        direct = str(email or given.get("toPersonId"))
        message: dict[str, Any] = {
            "id": webex_id("MESSAGE", str(uuid.uuid4())),
            "roomId": given.get("roomId") or _room_id(f"direct {account.email} {direct}"),
            "roomType": "group" if "roomId" in given else "direct",
            **{name: given[name] for name in ("toPersonEmail", "toPersonId", "text", "markdown") if name in given},
            **({"files": files} if files else {}),
            "personId": account.person_id,
            "personEmail": account.email,
            "created": self._now(),
        }
        self._messages[message["id"]] = message
        return message

    def get_message(self, call: Call) -> dict[str, Any]:
        self._allowed(call, "spark:messages_read")
        return self._message(call)

    def delete_message(self, call: Call) -> web.Response:
        account = self._allowed(call, "spark:messages_write").grant.account
        message = self._message(call)
        if message["personId"] != account.person_id:
            raise Refused(403)
        del self._messages[message["id"]]
        return web.Response(status=204)

    def _allowed(self, call: Call, scope: str) -> Token:
        return self._tokens.authorize(call.bearer, scope, "spark:all")

    def _message(self, call: Call) -> dict[str, Any]:
        message = self._messages.get(call.http.match_info["id"])
        if message is None:
            raise Refused(404)
        return message

    def _files(self, value: object) -> list[str]:
        """Return the URLs of attached files: uploaded (multipart) or named by URL (JSON). Webex accepts one."""
        if isinstance(value, web.FileField):
            return [f"{self._tenant.base_url}/contents/{webex_id('CONTENT', str(uuid.uuid4()))}"]
        urls = [value] if isinstance(value, str) and value else value or []
        if not isinstance(urls, list) or not all(str(url).startswith(("http://", "https://")) for url in urls):
            raise Refused(400)
        if len(urls) > 1:
            raise Refused(400, message=_TOO_MANY_FILES)
        return urls

    def _now(self) -> str:
        moment = datetime.fromtimestamp(self._tenant.clock(), UTC)
        return moment.isoformat("T", "milliseconds").replace("+00:00", "Z")


def _room_id(name: str) -> str:
    return webex_id("ROOM", str(uuid.uuid5(uuid.NAMESPACE_URL, name)))
