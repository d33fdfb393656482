__version__: str
__all__: list[str]

from .clients.aiohttp_middleware import aiohttp_middleware as aiohttp_middleware
from .clients.httpx_auth import WebexAuth as WebexAuth
from .clients.requests_auth import RequestsAuth as RequestsAuth
from .clients.webexpythonsdk import webexpythonsdk_api as webexpythonsdk_api
from .clients.wxc_sdk import as_wxc_sdk_api as as_wxc_sdk_api
from .clients.wxc_sdk import wxc_sdk_api as wxc_sdk_api
from .clients.wxc_sdk import wxc_sdk_tokens as wxc_sdk_tokens
from .errors import AuthorizationDenied as AuthorizationDenied
from .errors import ConfigurationError as ConfigurationError
from .errors import LoginFailed as LoginFailed
from .errors import LoginRequired as LoginRequired
from .errors import LoginTimeout as LoginTimeout
from .errors import ServerUnreachable as ServerUnreachable
from .errors import TokenEndpointError as TokenEndpointError
from .errors import TokenStoreError as TokenStoreError
from .errors import WebexLoopbackError as WebexLoopbackError
from .login.login import log_in as log_in
from .login.login import log_out as log_out
from .tokens.record import StoredToken as StoredToken
from .tokens.source import TokenSource as TokenSource
from .tokens.source import aget_token as aget_token
from .tokens.source import get_token as get_token
from .tokens.status import LoginStatus as LoginStatus
from .tokens.status import login_status as login_status
from .tokens.stores import TokenStore as TokenStore
from .tokens.stores.file import FileTokenStore as FileTokenStore
from .tokens.stores.keyring import KeyringTokenStore as KeyringTokenStore
from .tokens.stores.memory import MemoryTokenStore as MemoryTokenStore
from .tokens.stores.postgres import PostgresTokenStore as PostgresTokenStore
