"""What stands between a browser and the page: only requests meant for this server pass, and only it is asked back.

Another site's page could send requests here (the Origin header tells), or give its own name this machine's address
("DNS rebinding"; the Host header tells). The other way round, a content security policy holds the browser to this
server, whatever Gradio's pages refer to.
"""

import re
import socket
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any

_POLICY = "; ".join(
    (
        "default-src 'self'",
        "script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:",  # Gradio's own are inline
        "style-src 'self' 'unsafe-inline'",
        "img-src 'self' data: blob:",
        "media-src 'self' blob:",
        "font-src 'self' data:",
        "worker-src 'self' blob:",
        "connect-src 'self' data: blob:",
        "frame-ancestors 'self'",
        "form-action 'self'",
    )
)

_LOOPBACK = ("localhost", "127.0.0.1", "::1")
_PORT = re.compile(r":\d*$")

Message = MutableMapping[str, Any]
Send = Callable[[Message], Awaitable[None]]


def own_names(host: str, more: Iterable[str] = ()) -> frozenset[str]:
    """The names of a server that listens at `host`: this machine's, `host`, and `more`."""
    return frozenset(_name(name) for name in (*_LOOPBACK, socket.gethostname(), host, *more))


class OwnOrigin:
    """Refuses requests whose Host is not one of `names` or whose Origin is another site (ASGI)."""

    def __init__(self, app: Callable[..., Awaitable[None]], names: frozenset[str]) -> None:
        self.app, self.names = app, names

    async def __call__(self, scope: Message, receive: Any, send: Send) -> None:
        """Hand the request on, or answer it with 403 and one line."""

        async def send_with_policy(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = [(b"content-security-policy", _POLICY.encode()), (b"referrer-policy", b"no-referrer")]
                message["headers"] = [*message.get("headers", []), *headers]
            await send(message)

        refusal = None if scope["type"] == "lifespan" else self._refusal(scope)
        if refusal is None:
            await self.app(scope, receive, send_with_policy)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
        else:
            headers = [(b"content-type", b"text/plain; charset=utf-8")]
            await send_with_policy({"type": "http.response.start", "status": 403, "headers": headers})
            await send({"type": "http.response.body", "body": f"{refusal}\n".encode()})

    def _refusal(self, scope: Message) -> str | None:
        """Why this request is not meant for this server; None if it is."""
        hosts, origins = _values(scope, b"host"), _values(scope, b"origin")
        # The address at which the connection came in, one of many where the server listens at all of them.
        own = self.names | {_name(str((scope.get("server") or ("",))[0]))} - {""}
        if len(hosts) != 1 or _name(hosts[0]) not in own:
            return "This page is not served under that name. Whoever started it can allow it: --allow-host NAME."
        if any(origin.partition("://")[2].lower() != hosts[0].lower() for origin in origins):
            return "Another site asked for this page, and it answers only its own."
        return None


def _values(scope: Message, header: bytes) -> list[str]:
    return [value.decode("latin-1") for key, value in scope["headers"] if key == header]


def _name(host: str) -> str:
    """A Host header or an address without its port and brackets, in lower case."""
    if not host.startswith("[") and host.count(":") > 1:  # a bare IPv6 address
        return host.lower()
    return _PORT.sub("", host).strip("[]").lower()
