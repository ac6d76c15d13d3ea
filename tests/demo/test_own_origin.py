"""The page answers only browsers that ask for it by its own name, and only its own pages."""

import asyncio
import urllib.error
import urllib.request

import pytest

from ssd.demo.own_origin import OwnOrigin, own_names
from tests.commands.small_detector import save_small_weights
from tests.demo.test_page import served


async def _app(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"the page"})


def ask(headers, *, host="127.0.0.1", more=(), kind="http", server=("192.168.1.7", 7860)):
    """The messages with which the server answers."""
    sent = []

    async def send(message):
        sent.append(message)

    scope = {"type": kind, "server": server, "headers": [(key, value.encode()) for key, value in headers]}
    asyncio.run(OwnOrigin(_app, own_names(host, more))(scope, None, send))
    return sent


@pytest.mark.parametrize(
    "name",
    ["localhost:7860", "LOCALHOST", "127.0.0.1:7860", "[::1]:7860", "192.168.1.7:7860", "gpu.lan", "0.0.0.0:7860"],
)
def test_its_own_names_are_answered(name):
    answer = ask([(b"host", name), (b"origin", f"http://{name}")], host="0.0.0.0", more=["gpu.lan:80"])
    assert answer[0]["status"] == 200
    assert b"content-security-policy" in dict(answer[0]["headers"])


@pytest.mark.parametrize(
    "headers",
    [
        [(b"host", "attacker.example:7860")],
        [(b"host", "127.0.0.1.attacker.example")],
        [(b"host", "192.168.1.8:7860")],
        [],
        [(b"host", "localhost"), (b"host", "attacker.example")],
        [(b"host", "localhost:7860"), (b"origin", "http://attacker.example")],
        [(b"host", "localhost:7860"), (b"origin", "http://localhost:3000")],
        [(b"host", "localhost:7860"), (b"origin", "null")],
    ],
)
def test_other_names_and_other_sites_are_refused_in_one_line(headers):
    answer = ask(headers)
    assert answer[0]["status"] == 403
    assert answer[1]["body"].count(b"\n") == 1
    assert ask(headers, kind="websocket") == [{"type": "websocket.close", "code": 1008}]


@pytest.mark.slow
def test_gradios_server_refuses_them(tmp_path):
    pytest.importorskip("gradio", reason="the extra demo is not installed")
    weights = save_small_weights(tmp_path / "small.safetensors")
    with served(tmp_path, weights) as (address, _):
        place = address.removeprefix("http://").rstrip("/")
        assert status(address) == 200
        assert status(address, Origin=f"http://{place}") == 200
        assert status(address, Host="attacker.example") == 403
        assert status(address, Origin="http://attacker.example") == 403
        assert status(f"{address}gradio_api/info", Host="attacker.example") == 403


def status(address, **headers):
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(urllib.request.Request(address, headers=headers), timeout=60) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        with error:
            return error.code
