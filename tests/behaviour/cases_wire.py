"""What a server says to a client, line by line."""

from __future__ import annotations

from .harness import Harness, connect_line


class GreetingCases(Harness):
    """INFO, CONNECT, and the first PING."""

    async def test_info_introduces_the_server(self) -> None:
        """The first INFO has what clients need to know."""
        raw = await self.dial(await self.server())
        info = raw.infos[0]
        self.assertEqual((info["proto"], info["headers"], info["max_payload"], info["client_ip"]), (1, True, 1048576, "127.0.0.1"))
        for key in ("server_id", "server_name", "version", "go", "host", "port", "client_id"):
            self.assertTrue(info[key], key)
        for key in ("auth_required", "nonce", "connect_urls", "ldm", "tls_required"):
            self.assertNotIn(key, info)

    async def test_each_client_has_its_number(self) -> None:
        """Two connections have different client ids."""
        server = await self.server()
        one, two = await self.dial(server), await self.dial(server)
        self.assertNotEqual(one.infos[0]["client_id"], two.infos[0]["client_id"])

    async def test_second_info_behind_the_first_pong(self) -> None:
        """Behind the first PONG, and only that, comes an INFO with the account."""
        raw = await self.dial(await self.server())
        raw.send(connect_line() + b"PING\r\n")
        info = await raw.info()
        self.assertEqual((info["connect_info"], info["remote_account"]), (True, "$G"))
        self.assertEqual(info["client_id"], raw.infos[0]["client_id"])
        await raw.exchange(b"PING\r\n")
        self.assertEqual(len(raw.infos), 2)

    async def test_old_clients_get_one_info(self) -> None:
        """A client of protocol 0 gets no INFO but the first."""
        raw = await self.dial(await self.server())
        await raw.exchange(connect_line(protocol=0))
        await raw.exchange()
        self.assertEqual(len(raw.infos), 1)

    async def test_connect_that_is_not_json(self) -> None:
        """A CONNECT that cannot be read closes the connection without a word."""
        raw = await self.dial(await self.server())
        self.assertEqual(await raw.ending(b"CONNECT {bad\r\n"), [])

    async def test_connect_with_unknown_protocol(self) -> None:
        """A protocol that is not 0 or 1 is refused."""
        raw = await self.dial(await self.server())
        self.assertEqual(await raw.ending(connect_line(protocol=5)), [b"-ERR 'invalid client protocol'"])

    async def test_no_responders_needs_headers(self) -> None:
        """no_responders without headers is refused."""
        raw = await self.dial(await self.server())
        lines = await raw.ending(connect_line(headers=False, no_responders=True))
        self.assertEqual(lines, [b"-ERR 'no responders requires headers support'"])

    async def test_nobody_has_to_send_connect(self) -> None:
        """A server without authentication serves who does not send CONNECT, and acknowledges each line."""
        raw = await self.dial(await self.server())
        self.assertEqual(await raw.exchange(b"SUB a 1\r\nPUB a 1\r\nz\r\n"), [b"+OK", b"+OK", b"MSG a 1 1", b"z"])

    async def test_defaults_are_verbose_and_pedantic(self) -> None:
        """What CONNECT leaves out is on: verbose and pedantic; a message comes back to its publisher."""
        raw = await self.dial(await self.server())
        lines = await raw.exchange(b"CONNECT {}\r\nSUB a.* 1\r\nPUB a.* 0\r\n\r\n")
        self.assertEqual(lines, [b"+OK", b"+OK", b"-ERR 'Invalid Publish Subject'", b"+OK", b"MSG a.* 1 0", b""])

    async def test_connect_again(self) -> None:
        """A second CONNECT changes what it names and leaves the rest."""
        raw = await self.raw(await self.server())
        self.assertEqual(await raw.exchange(b"SUB a 1\r\nPUB a 0\r\n\r\n"), [b"MSG a 1 0", b""])
        self.assertEqual(await raw.exchange(b'CONNECT {"echo":false}\r\nPUB a 0\r\n\r\n'), [])

    async def test_too_many_connections(self) -> None:
        """A client over the limit gets an error and the end; when another goes there is room."""
        server = await self.server({"max_connections": 1})
        first = await self.raw(server)
        second = await self.dial(server)
        self.assertEqual(await second.ending(), [b"-ERR 'maximum connections exceeded'"])
        self.assertEqual(await first.exchange(), [])
        await self.do(self._hang_up, first)
        await self.sleep(0.05)
        self.assertEqual(await (await self.raw(server)).exchange(), [])

    async def test_verbose_acknowledges_lines(self) -> None:
        """With verbose, CONNECT, SUB, PUB and UNSUB are answered with +OK, before what they cause; PING and PONG are not."""
        raw = await self.dial(await self.server())
        lines = await raw.exchange(connect_line(verbose=True) + b"SUB a 1\r\nPUB a 1\r\nz\r\nUNSUB 1\r\nUNSUB 9\r\nPONG\r\n")
        self.assertEqual(lines, [b"+OK", b"+OK", b"+OK", b"MSG a 1 1", b"z", b"+OK", b"+OK"])

    async def test_verbose_error_in_the_place_of_ok(self) -> None:
        """With verbose, what is refused gets its error and no +OK."""
        raw = await self.dial(await self.server())
        self.assertEqual(await raw.exchange(connect_line(verbose=True) + b"SUB a..b 1\r\n"), [b"+OK", b"-ERR 'Invalid Subject'"])


class LineCases(Harness):
    """What lines a server reads, and what it does with others."""

    UNKNOWN = (b"-ERR 'Unknown Protocol Operation'",)

    async def test_lower_case(self) -> None:
        """Operations may be in lower case."""
        raw = await self.raw(await self.server())
        self.assertEqual(await raw.exchange(b"sub a 1\r\npub a 1\r\nz\r\nping\r\n"), [b"MSG a 1 1", b"z", b"PONG"])

    async def test_tabs_and_spaces(self) -> None:
        """Arguments may be apart by several spaces and tabs."""
        raw = await self.raw(await self.server())
        self.assertEqual(await raw.exchange(b"SUB a\t1\r\nPUB  a   1  \r\nz\r\n"), [b"MSG a 1 1", b"z"])

    async def test_lines_without_cr(self) -> None:
        """A control line may end with LF alone."""
        raw = await self.raw(await self.server())
        self.assertEqual(await raw.exchange(b"SUB a 1\nPUB a 1\nz\r\n"), [b"MSG a 1 1", b"z"])

    async def test_byte_by_byte(self) -> None:
        """Frames may come in any split."""
        raw = await self.raw(await self.server())
        for byte in b"SUB a 1\r\nPUB a 3\r\nx\r\n\r\nHPUB a 12 13\r\nNATS/1.0\r\n\r\nz\r\n":
            raw.send(bytes((byte,)))
            await self.sleep(0)
        self.assertEqual(await raw.exchange(), [b"MSG a 1 3", b"x", b"", b"HMSG a 1 12 13", b"NATS/1.0", b"", b"z"])

    async def test_ping_with_more_behind_it(self) -> None:
        """What stands behind PING in its line is passed over."""
        raw = await self.raw(await self.server())
        raw.send(b"PING x\r\n")
        self.assertEqual(await raw.lines(1), [b"PONG"])

    async def test_lines_of_servers(self) -> None:
        """INFO and +OK from a client are passed over."""
        raw = await self.raw(await self.server())
        self.assertEqual(await raw.exchange(b"INFO {}\r\n+OK\r\n"), [])

    async def test_error_of_a_client(self) -> None:
        """A client that says -ERR is left without a word."""
        self.assertEqual(await self.refused(await self.server(), b"-ERR 'x'\r\n"), [])

    async def test_unknown_operation(self) -> None:
        """A line that begins with no operation ends the connection."""
        self.assertEqual(await self.refused(await self.server(), b"ZOO\r\n"), [*self.UNKNOWN])

    async def test_first_wrong_byte(self) -> None:
        """The server does not wait for the end of a line that cannot become one."""
        self.assertEqual(await self.refused(await self.server(), b"PX"), [*self.UNKNOWN])

    async def test_empty_line(self) -> None:
        """An empty line is an unknown operation."""
        self.assertEqual(await self.refused(await self.server(), b"\r\n"), [*self.UNKNOWN])

    async def test_operation_of_servers(self) -> None:
        """MSG from a client is an unknown operation."""
        self.assertEqual(await self.refused(await self.server(), b"MSG a 1 0\r\n\r\n"), [*self.UNKNOWN])

    async def test_operations_without_arguments(self) -> None:
        """PUB, SUB and UNSUB alone in a line are unknown operations."""
        server = await self.server()
        for line in (b"PUB\r\n", b"SUB\r\n", b"UNSUB\r\n", b"HPUB\r\n"):
            self.assertEqual(await self.refused(server, line), [*self.UNKNOWN])

    async def test_wrong_number_of_arguments(self) -> None:
        """Too few or too many arguments end the connection without a word."""
        server = await self.server()
        for line in (b"PUB a", b"PUB a b c 0", b"SUB 5", b"SUB a b c d", b"UNSUB 1 2 3", b"HPUB a 5", b"HPUB a b c 12 12"):
            self.assertEqual(await self.refused(server, line + b"\r\n"), [], line)

    async def test_sizes_that_are_none(self) -> None:
        """A size that is no number, or has ten digits, ends the connection without a word."""
        server = await self.server()
        for line in (b"PUB a -1", b"PUB a 2x", b"PUB a 9999999999", b"HPUB a x 12", b"HPUB a 12 10"):
            self.assertEqual(await self.refused(server, line + b"\r\n"), [], line)

    async def test_payload_without_its_end(self) -> None:
        """A payload has to be followed by CR LF."""
        server = await self.server()
        self.assertEqual(await self.refused(server, b"PUB a 2\r\nhiXX\r\n"), [*self.UNKNOWN])
        self.assertEqual(await self.refused(server, b"PUB a 2\r\nhi\n"), [*self.UNKNOWN])

    async def test_control_line_too_long(self) -> None:
        """A line of more than 4096 bytes ends the connection, before its end has come."""
        server = await self.server()
        expected = [b"-ERR 'maximum control line exceeded'"]
        self.assertEqual(await self.refused(server, b"PUB " + b"a" * 5000 + b" 1\r\n"), expected)
        self.assertEqual(await self.refused(server, b"SUB " + b"a" * 5000), expected)

    async def test_control_line_limit_is_an_option(self) -> None:
        """The limit of a line can be set."""
        server = await self.server({"max_control_line": 256})
        self.assertEqual(await self.refused(server, b"SUB " + b"a" * 300 + b" 1\r\n"), [b"-ERR 'maximum control line exceeded'"])

    async def test_payload_limit(self) -> None:
        """A message of the largest size is delivered; one byte more ends the connection, before it has come."""
        server = await self.server({"max_payload": 100})
        raw = await self.raw(server)
        self.assertEqual(raw.infos[0]["max_payload"], 100)
        self.assertEqual(await raw.exchange(b"SUB a 1\r\nPUB a 100\r\n" + b"x" * 100 + b"\r\n"), [b"MSG a 1 100", b"x" * 100])
        self.assertEqual(await raw.ending(b"PUB a 101\r\n"), [b"-ERR 'Maximum Payload Violation'"])

    async def test_payload_limit_counts_headers(self) -> None:
        """Headers and payload together are what the limit is for."""
        server = await self.server({"max_payload": 100})
        raw = await self.raw(server)
        self.assertEqual(await raw.exchange(b"HPUB a 12 100\r\nNATS/1.0\r\n\r\n" + b"x" * 88 + b"\r\n"), [])
        self.assertEqual(await raw.ending(b"HPUB a 12 101\r\n"), [b"-ERR 'Maximum Payload Violation'"])


class LivenessCases(Harness):
    """PINGs of the server."""

    async def test_server_asks(self) -> None:
        """The server sends PINGs, and who answers stays."""
        raw = await self.raw(await self.server({"ping_interval": 0.1, "ping_max": 1}))
        for _ in range(4):
            self.assertEqual(await raw.lines(1), [b"PING"])
            raw.send(b"PONG\r\n")
        self.assertEqual(await raw.exchange(), [])

    async def test_who_does_not_answer_is_stale(self) -> None:
        """Who leaves PINGs unanswered gets an error and the end."""
        raw = await self.raw(await self.server({"ping_interval": 0.1, "ping_max": 2}))
        self.assertEqual(await raw.ending(), [b"PING", b"PING", b"-ERR 'Stale Connection'"])

    async def test_first_ping_comes_early(self) -> None:
        """With the usual interval of two minutes, the first PING comes after about two seconds all the same."""
        raw = await self.raw(await self.server())
        begun = self.reactor.seconds()
        self.assertEqual(await raw.lines(1), [b"PING"])
        self.assertTrue(1.5 < self.reactor.seconds() - begun < 3.5)
