"""Who may listen to an ``sse`` route, and what those get who may not."""

from __future__ import annotations

import base64
import hmac
import json
from pathlib import Path
from typing import Any

from pynats_twisted import Msg
from tests.integration.sse_case import LIVE, Listener, SSECase

SECRET = "0123456789abcdef0123456789abcdef"


def encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def token(claims: dict[str, Any], secret: str = SECRET, **header: Any) -> str:
    """A token of HS256."""
    signed = ".".join(encode(json.dumps(part).encode()) for part in ({"alg": "HS256", **header}, claims))
    return f"{signed}.{encode(hmac.digest(secret.encode(), signed.encode(), 'sha256'))}"


class LimitTests(SSECase):
    async def test_max_connections(self) -> None:
        """A client too many: 503 with Retry-After; when one goes, another may come."""
        await self.start("max_connections = 2")
        first, _ = await self.listen(), await self.listen()
        refused = await self.refused()
        self.assertEqual(
            (refused.status, refused.problem["type"], refused.headers["retry-after"]), (503, "urn:nats-bridge:overloaded", "1")
        )
        first.close()
        await self.until(lambda: self.count("sse_clients") == 1)
        await self.listen()

    async def test_max_filters(self) -> None:
        """Filters are bounded, as each costs a consumer; one without listeners makes room."""
        await self.start("max_filters = 2")
        listeners = [await self.listen(f"/live/{room}") for room in "aba"]
        self.assertEqual((await self.refused("/live/c")).status, 503)
        listeners[0].close()
        await self.until(lambda: self.count("sse_clients") == 2)
        self.assertEqual((await self.refused("/live/c")).status, 503)

    async def test_filters_that_linger_make_room(self) -> None:
        """A filter that nobody listens to any more does not keep others out."""
        await self.start("max_filters = 1")
        (await self.listen("/live/a")).close()
        await self.until(lambda: self.count("sse_clients") == 0)
        await self.listen("/live/b")

    async def test_rate(self) -> None:
        """Connections beyond the rate: 429 with Retry-After."""
        await self.start('rate = { limit = "1/m", burst = 2 }')
        await self.listen()
        await self.listen()
        refused = await self.refused()
        self.assertEqual(refused.status, 429)
        self.assertGreater(int(refused.headers["retry-after"]), 20)

    async def test_bad_values(self) -> None:
        """What is no token of a subject is 400, whatever it would do as one."""
        await self.start()
        for value in ("a.b", "*", "%3E", "a%20b", "%0d%0a", "%00", "%ff", "x" * 129, ""):
            refused = await self.refused(f"/live/{value}")
            self.assertEqual(refused.status, 400, value)
        self.assertEqual(self.route.hubs(), [])

    async def test_values_of_query_and_header(self) -> None:
        """Values of the filter may come from the query and from headers, each once."""
        route = LIVE.replace("/live/{room}", "/live").replace("{room}.>", "{query:room}.{header:X-Kind}")
        await self.start("", route)
        listener = await self.listen("/live?room=a", headers={"X-Kind": "x"})
        await self.publish(b"1")
        await self.got(listener, "1")
        for target, headers in (("/live?room=a&room=b", {"X-Kind": "x"}), ("/live?room=a", {}), ("/live?room=%zz", {"X-Kind": "x"})):
            self.assertEqual((await self.refused(target, headers=headers)).status, 400)

    async def test_other_requests(self) -> None:
        """Another method is 405, a body is 413, another path is 404."""
        await self.start()
        refused = await self.refused(method="POST")
        self.assertEqual((refused.status, refused.headers["allow"]), (405, "GET"))
        self.assertEqual((await self.refused(headers={"Content-Length": "100000000"})).status, 413)
        self.assertEqual((await self.refused("/live")).status, 404)

    async def test_stopping(self) -> None:
        """While the bridge stops, who comes all the same is told to come again; a route that was taken out is not there any more."""
        await self.start()
        self.bridge.context.draining = True
        await self.bridge.routes["live"].stopService()
        refused = await self.refused()
        self.assertEqual((refused.status, refused.problem["type"], refused.headers["retry-after"]), (503, "urn:nats-bridge:stopping", "1"))
        self.bridge.context.draining = False
        await self.bridge.routes["live"].stopService()
        self.assertEqual((await self.refused()).status, 404)


class CorsTests(SSECase):
    async def test_origins(self) -> None:
        """Pages of the listed origins may listen, with cookies; others may not, nor may they read errors."""
        await self.start('cors = ["https://app.example"]\nauth = { bearer = "t", cookie = "session" }')
        mine = {"Origin": "https://app.example", "Cookie": "session=t"}
        listener = await self.listen(headers=mine)
        self.assertEqual(listener.headers["access-control-allow-origin"], "https://app.example")
        self.assertEqual((listener.headers["access-control-allow-credentials"], listener.headers["vary"]), ("true", "Origin"))
        refused = await self.refused(headers={"Origin": "https://app.example"})
        self.assertEqual((refused.status, refused.headers["access-control-allow-origin"]), (401, "https://app.example"))
        foreign = await self.listen(headers={**mine, "Origin": "https://evil.example"})
        self.assertNotIn("access-control-allow-origin", foreign.headers)
        self.assertNotIn("access-control-allow-credentials", foreign.headers)

    async def test_preflight(self) -> None:
        """Programs that set the headers themselves may ask beforehand."""
        await self.start('cors = ["https://app.example"]')
        asked = {"Origin": "https://app.example", "Access-Control-Request-Method": "GET"}
        listener = await self.connect_to(headers=asked, method="OPTIONS")
        await self.until(lambda: listener.status)
        self.assertEqual((listener.status, listener.headers["access-control-allow-origin"]), (204, "https://app.example"))
        self.assertIn("last-event-id", listener.headers["access-control-allow-headers"])

    async def test_any_origin(self) -> None:
        """With "*" everybody may, without cookies."""
        await self.start('cors = ["*"]')
        listener = await self.listen(headers={"Origin": "https://app.example"})
        self.assertEqual(listener.headers["access-control-allow-origin"], "*")
        self.assertNotIn("access-control-allow-credentials", listener.headers)


class AuthTests(SSECase):
    async def allowed(self, target: str = "/live/a", **headers: str) -> Listener:
        listener = await self.listen(target, headers=headers)
        self.assertEqual(listener.status, 200)
        return listener

    async def denied(self, target: str = "/live/a", **headers: str) -> int:
        return (await self.refused(target, headers=headers)).status

    async def test_bearer_everywhere(self) -> None:
        """A token in the header, in the cookie, or in the URL lets in; a wrong one is 403, none is 401 with a challenge."""
        await self.start('auth = { bearer = "one,two", cookie = "session", query = "token" }')
        await self.allowed(Authorization="Bearer one")
        await self.allowed(Cookie='theme=dark; session="two"')
        await self.allowed("/live/a?token=two")
        refused = await self.refused()
        self.assertEqual((refused.status, refused.headers["www-authenticate"]), (401, 'Bearer realm="live"'))
        self.assertEqual(await self.denied(Authorization="Bearer three"), 403)
        self.assertEqual(await self.denied(Cookie="session=three"), 403)
        self.assertEqual(await self.denied(Cookie="other=one"), 401)
        self.assertEqual(await self.denied(Cookie="session=one; session=two"), 401)
        self.assertEqual(await self.denied("/live/a?token=three"), 403)
        self.assertEqual(await self.denied("/live/a?token=one&token=two"), 401)

    async def test_not_where_it_was_not_asked_for(self) -> None:
        """Cookies and parameters count only where the configuration says so."""
        await self.start('auth = { bearer = "one" }')
        self.assertEqual(await self.denied("/live/a?token=one", Cookie="session=one; token=one"), 401)

    async def test_basic(self) -> None:
        """User names with passwords work as well."""
        await self.start('auth = { basic = { ann = "pw" } }')
        await self.allowed(Authorization="Basic " + base64.b64encode(b"ann:pw").decode())
        self.assertEqual(await self.denied(Authorization="Basic " + base64.b64encode(b"ann:no").decode()), 403)

    async def test_jwt(self) -> None:
        """A signed token lets into the rooms that it names, until it expires."""
        keys = f'auth = {{ cookie = "session", jwt = {{ secret = "{SECRET}", audience = "live", claims = {{ room = "{{room}}" }} }} }}'
        await self.start(keys)
        now = self.reactor.seconds()
        good = {"exp": now + 600, "room": "a", "aud": "live"}
        await self.allowed(Authorization=f"Bearer {token(good)}")
        await self.allowed(Cookie=f"session={token({**good, 'room': ['b', 'a']})}")
        self.assertEqual(await self.denied("/live/b", Authorization=f"Bearer {token(good)}"), 403)
        for bad in ({**good, "exp": now - 60}, {**good, "aud": "other"}, {"room": "a", "aud": "live"}, {**good, "nbf": now + 600}):
            self.assertEqual(await self.denied(Authorization=f"Bearer {token(bad)}"), 403)
        self.assertEqual(await self.denied(Authorization=f"Bearer {token(good, 'f' * 32)}"), 403)
        self.assertEqual(await self.denied(Authorization=f"Bearer {token(good, alg='none')}"), 403)
        self.assertEqual(await self.denied(), 401)

    async def test_jwt_ends(self) -> None:
        """When the token expires the stream ends; with the same token nobody gets in again."""
        await self.start(f'heartbeat = "200ms"\nauth = {{ jwt = {{ secret = "{SECRET}", leeway = "10ms" }} }}')
        credentials = f"Bearer {token({'exp': self.reactor.seconds() + 2})}"
        listener = await self.allowed(Authorization=credentials)
        await listener.ended
        self.assertEqual(await self.denied(Authorization=credentials), 403)

    async def test_jwks(self) -> None:
        """Keys come from a file, which may change while the bridge runs."""
        path = Path(self.mktemp()).resolve()

        def write(secret: str) -> None:
            path.write_text(json.dumps({"keys": [{"kty": "oct", "kid": "1", "k": encode(secret.encode())}]}), "utf-8")

        write(SECRET)
        await self.start(f'auth = {{ jwt = {{ jwks_file = "{path}" }} }}')
        good = {"exp": self.reactor.seconds() + 600}
        await self.allowed(Authorization=f"Bearer {token(good, kid='1')}")
        self.assertEqual(await self.denied(Authorization=f"Bearer {token(good, kid='2')}"), 403)

    async def test_a_service_decides(self) -> None:
        """A service on NATS gets what the client brought, and says who may listen to what."""
        await self.start('auth = { request = { subject = "auth.live", headers = ["cookie"] } }', LIVE)
        questions: list[Any] = []

        async def decide(msg: Msg) -> None:
            question = json.loads(msg.data)
            questions.append(question)
            cookie = question["headers"].get("cookie", [""])[0]
            answers: dict[str, Any] = {
                "session=ann": {"allow": True},
                "session=bob": {"allow": True, "filter": "chat.a.public"},
                "session=eve": {"allow": True, "filter": "chat.>"},
                "session=odd": {"allow": "yes"},
            }
            await msg.respond(json.dumps(answers.get(cookie, {"allow": False})).encode())

        await self.nc.subscribe("auth.live", decide)
        ann = await self.allowed(Cookie="session=ann", Authorization="Bearer x")
        bob = await self.allowed(Cookie="session=bob")
        self.assertEqual(await self.denied(Cookie="session=mallory"), 403)
        # What is not within the filter of the route is a mistake of the service, and no leave.
        self.assertEqual(await self.denied(Cookie="session=eve"), 502)
        self.assertEqual(await self.denied(Cookie="session=odd"), 502)
        await self.publish(b"private", subject="chat.a.private")
        await self.publish(b"public", subject="chat.a.public")
        await self.got(ann, "private", "public")
        await self.got(bob, "public")
        expected = {"route": "live", "path": "/live/a", "values": {"room": "a"}, "filter": "chat.a.>", "peer": "127.0.0.1"}
        self.assertEqual(questions[0], {**expected, "headers": {"cookie": ["session=ann"]}})

    async def test_service_limits_the_time(self) -> None:
        """The service may say for how long."""
        await self.start('heartbeat = "100ms"\nauth = { request = "auth.live" }')
        await self.nc.subscribe("auth.live", lambda msg: msg.respond(b'{"allow": true, "max_duration": 0.5}'))
        listener = await self.allowed()
        await listener.ended
        self.assertEqual(len(listener.retries), 2)

    async def test_service_is_not_there(self) -> None:
        """Without an answer nobody gets in: 503 with Retry-After. A client that goes away meanwhile is forgotten."""
        await self.start('auth = { request = { subject = "auth.live", timeout = "300ms" } }')
        refused = await self.refused()
        self.assertEqual((refused.status, refused.problem["type"]), (503, "urn:nats-bridge:auth-unavailable"))
        self.assertEqual(refused.headers["retry-after"], "1")
        asked: list[Msg] = []
        await self.nc.subscribe("auth.live", asked.append)
        gone = await self.connect_to()
        await self.until(lambda: asked)
        gone.close()
        await self.until(lambda: not self.route._asking)
        self.assertEqual((await self.refused()).status, 503)
        self.assertEqual(self.count("sse_clients"), 0)

    async def test_service_besides_a_token(self) -> None:
        """With both, both have to agree; the service is asked only about those whose token is right."""
        await self.start('auth = { bearer = "one", request = "auth.live" }')
        asked: list[Msg] = []

        async def decide(msg: Msg) -> None:
            asked.append(msg)
            await msg.respond(b'{"allow": %s}' % (b"true" if len(asked) == 1 else b"false"))

        await self.nc.subscribe("auth.live", decide)
        self.assertEqual(await self.denied(), 401)
        self.assertEqual(asked, [])
        await self.allowed(Authorization="Bearer one")
        self.assertEqual(await self.denied(Authorization="Bearer one"), 403)

    async def test_nothing_secret_is_told(self) -> None:
        """Neither problems nor errors nor the configuration say a token."""
        await self.start('debug = true\nauth = { bearer = "one", query = "token" }')
        refused = await self.refused("/live/a?token=guessed")
        await self.allowed("/live/a?token=one")
        told = f"{refused.problem} {self.route._activity.errors} {self.route.config!r} {self.route.describe()}"
        self.assertNotIn("guessed", told)
        self.assertNotIn("'one'", told)
        self.assertIn("redacted", str(self.flushed_config()))

    def flushed_config(self) -> str:
        from pynats_twisted.bridge.config_output import format_config

        return format_config(self.bridge.config)
