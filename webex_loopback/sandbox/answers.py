"""Webex's error answers: both shapes of the body, the known texts (`answers.json`), tracking IDs."""

import json
import uuid
from collections.abc import Mapping
from importlib.resources import files

_TEXTS = json.loads(files(__package__).joinpath("answers.json").read_text(encoding="utf-8"))
DEAD_REFRESH_TOKEN: str = _TEXTS["descriptions"]["invalid_grant"]
SERVER_ERROR: str = _TEXTS["descriptions"]["server_error"]


class Refused(Exception):
    """A request that is answered with an error.

    Attributes:
        error: RFC 6749 error code; "" if only the gateway's shape is possible.
        message: `message` of the gateway's shape.
        gateway_description: Its `errors[0].description`.
    """

    def __init__(
        self, status: int, error: str = "", description: str = "", *, message: str = "", gateway_description: str = ""
    ) -> None:
        super().__init__(f"{status} {error}")
        messages = _TEXTS["messages"]
        self.status = status
        self.error = error
        self.message: str = message or messages.get(str(status), messages["400"])
        self.description: str = description or _TEXTS["descriptions"].get(error, self.message)
        self.gateway_description = gateway_description or self.description

    def body(self, tracking_id: str, shape: int) -> dict[str, object]:
        """Return the JSON body. Shape 1 is the API gateway's, shape 2 RFC 6749 §5.2 as the identity broker sends it."""
        if shape == 2 and self.error:
            return {"error": self.error, "error_description": self.description, "trackingID": tracking_id}
        errors = [{"description": self.gateway_description}]
        return {"message": self.message, "errors": errors, "trackingId": tracking_id}


def dead_refresh_token(kind: str) -> Refused:
    """Return one of the three answers that clients report for an expired or revoked refresh token."""
    if kind == "401":
        return Refused(401, "invalid_client", DEAD_REFRESH_TOKEN)
    return Refused(400, kind, DEAD_REFRESH_TOKEN)


def wrong_client(status: int) -> Refused:
    return Refused(status, "invalid_client", message="Invalid client credentials")


def blank(parameter: str) -> Refused:
    return Refused(400, "invalid_request", f"Parameter:{parameter} is blank")


def require(fields: Mapping[str, object], *names: str) -> None:
    """Refuse a request without one of these fields."""
    for name in names:
        if not isinstance(fields.get(name), str) or not fields[name]:
            raise blank(name)


def named(error: str, description: str = "") -> Refused:
    """Return an error whose bare code is the description in the gateway's shape, as in the device grant."""
    return Refused(400, error, description, gateway_description=error)


def tracking_id(router: str = "ROUTER") -> str:
    return f"{router}_{str(uuid.uuid4()).upper()}"
