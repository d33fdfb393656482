"""Webex's words: both bodies of an error, tracking ids, and the texts that are known literally."""

import uuid

MALFORMED = "The request could not be understood by the server due to malformed syntax."
UNAUTHORIZED = "The request requires a valid access token set in the Authorization request header."
FORBIDDEN = (
    "The server understood the request, but refused to fulfill it because the access token is missing "
    "required scopes or the user is missing required roles or licenses."
)
NOT_FOUND = "The requested resource could not be found."
DEAD_REFRESH_TOKEN = "The refresh token provided is expired, revoked, malformed, or invalid."

_MESSAGES = {
    400: MALFORMED,
    401: UNAUTHORIZED,
    403: FORBIDDEN,
    404: NOT_FOUND,
    405: "The method is not allowed for the requested resource.",
    415: "The media type of the request is not supported.",
    428: "The request requires further authorization by the user.",
}


class Refused(Exception):
    """A request that gets an error for an answer.

    Attributes:
        error: RFC 6749's error code, "" where only the gateway's body is possible.
        message: First line of the gateway's body.
        gateway_description: What `errors[0].description` of the gateway's body says.
    """

    def __init__(
        self,
        status: int,
        error: str = "",
        description: str = "",
        *,
        message: str = "",
        gateway_description: str = "",
    ) -> None:
        super().__init__(f"{status} {error}")
        self.status = status
        self.error = error
        self.message = message or _MESSAGES[status]
        self.description = description or self.message
        self.gateway_description = gateway_description or self.description

    def body(self, tracking_id: str, shape: int) -> dict[str, object]:
        """Return the JSON: shape 1 is the API gateway's, shape 2 is RFC 6749 §5.2 as the broker sends it."""
        if shape == 2 and self.error:
            return {
                "error": self.error,
                "error_description": self.description,
                "trackingID": tracking_id,
            }
        return {
            "message": self.message,
            "errors": [{"description": self.gateway_description}],
            "trackingId": tracking_id,
        }


def dead_refresh_token(way: str) -> Refused:
    """Return one of the three answers that are reported for a refresh token that is dead."""
    if way == "401":
        return Refused(401, "invalid_client", DEAD_REFRESH_TOKEN)
    return Refused(400, way, DEAD_REFRESH_TOKEN)


def wrong_client(status: int) -> Refused:
    text = "The provided clientSecret is invalid"
    return Refused(status, "invalid_client", text, message="Invalid client credentials")


def blank(parameter: str) -> Refused:
    return Refused(400, "invalid_request", f"Parameter:{parameter} is blank")


def by_name(error: str, description: str, status: int = 400) -> Refused:
    """Return an error whose bare name is the description in the gateway's body, as the device grant has it."""
    return Refused(status, error, description, gateway_description=error)


def tracking_id(router: str = "ROUTER") -> str:
    return f"{router}_{str(uuid.uuid4()).upper()}"
