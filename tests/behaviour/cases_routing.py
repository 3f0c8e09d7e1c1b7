"""Who gets what: subjects, queue groups, limits, headers, replies."""

from __future__ import annotations

from .harness import Harness


class SubjectCases(Harness):
    """Subjects and wildcards."""

    async def gets(self, pattern: bytes, subject: bytes) -> bool:
        raw = await self.raw(await self.server()) if self._one is None else self._one
        self._one = raw
        lines = await raw.exchange(b"SUB %b 1\r\nPUB %b 0\r\n\r\nUNSUB 1\r\n" % (pattern, subject))
        self.assertIn(lines, ([], [b"MSG %b 1 0" % subject, b""]))
        return bool(lines)

    _one = None

    async def test_exact_subject(self) -> None:
        """A subscription without wildcards gets its subject, by case, and no other."""
        self.assertTrue(await self.gets(b"a.b", b"a.b"))
        for subject in (b"a", b"a.b.c", b"a.B", b"a.bb"):
            self.assertFalse(await self.gets(b"a.b", subject), subject)

    async def test_star_is_one_token(self) -> None:
        """``*`` stands for exactly one token, at any place."""
        for pattern, subject in ((b"*", b"a"), (b"a.*", b"a.b"), (b"*.b", b"a.b"), (b"a.*.c", b"a.b.c")):
            self.assertTrue(await self.gets(pattern, subject), (pattern, subject))
        for pattern, subject in ((b"*", b"a.b"), (b"a.*", b"a"), (b"a.*", b"a.b.c"), (b"a.*.c", b"a.b.d")):
            self.assertFalse(await self.gets(pattern, subject), (pattern, subject))

    async def test_greater_is_the_rest(self) -> None:
        """``>`` stands for one token or more at the end."""
        for pattern, subject in ((b">", b"a"), (b">", b"a.b"), (b"a.>", b"a.b"), (b"a.>", b"a.b.c.d"), (b"*.>", b"a.b")):
            self.assertTrue(await self.gets(pattern, subject), (pattern, subject))
        for pattern, subject in ((b"a.>", b"a"), (b"a.>", b"b.a"), (b"*.>", b"a")):
            self.assertFalse(await self.gets(pattern, subject), (pattern, subject))

    async def test_wildcard_inside_a_token_is_none(self) -> None:
        """``a*`` is a token like any other."""
        self.assertTrue(await self.gets(b"a*", b"a*"))
        self.assertFalse(await self.gets(b"a*", b"ab"))

    async def test_bytes_that_are_not_text(self) -> None:
        """A subject may have any byte but white space."""
        self.assertTrue(await self.gets(b"*", b"a\xff\x01\x80"))

    async def test_invalid_subscriptions(self) -> None:
        """A subject with an empty token, or ``>`` before its end, is refused; the connection stays."""
        raw = await self.raw(await self.server())
        for subject in (b"a..b", b".a", b"a.", b">.a", b"a.>.b"):
            self.assertEqual(await raw.exchange(b"SUB %b 1\r\n" % subject), [b"-ERR 'Invalid Subject'"], subject)
        self.assertEqual(await raw.exchange(b"PUB a..b 0\r\n\r\n"), [])

    async def test_empty_tokens_reach_nobody(self) -> None:
        """A publish to a subject with an empty token is accepted, and delivered to nobody."""
        raw = await self.raw(await self.server())
        self.assertEqual(await raw.exchange(b"SUB > 1\r\nPUB a..b 0\r\n\r\nPUB .a 0\r\n\r\nPUB a. 0\r\n\r\n"), [])

    async def test_publish_with_wildcards(self) -> None:
        """A publish to a subject with wildcards is accepted, and is nothing but a subject of that name."""
        raw = await self.raw(await self.server())
        self.assertEqual(await raw.exchange(b"SUB a.b 1\r\nSUB a.* 2\r\nPUB a.* 0\r\n\r\n"), [b"MSG a.* 2 0", b""])

    async def test_pedantic_publishes(self) -> None:
        """A pedantic client is told that such a subject is not valid; what can be delivered is."""
        raw = await self.raw(await self.server(), pedantic=True)
        error = b"-ERR 'Invalid Publish Subject'"
        self.assertEqual(await raw.exchange(b"PUB a..b 0\r\n\r\n"), [error])
        self.assertEqual(await raw.exchange(b"SUB * 1\r\nPUB * 0\r\n\r\n"), [error, b"MSG * 1 0", b""])
        self.assertEqual(await raw.exchange(b"PUB a.b c..d 0\r\n\r\n"), [])


class DeliveryCases(Harness):
    """Messages from one client to another."""

    async def test_message_reaches_another_client(self) -> None:
        """Subject, reply and payload arrive as they were sent."""
        server = await self.server()
        one, two = await self.raw(server), await self.raw(server)
        await one.exchange(b"SUB a.> 7\r\n")
        await two.exchange(b"PUB a.b r.1 5\r\nhello\r\n")
        self.assertEqual(await one.exchange(), [b"MSG a.b 7 r.1 5", b"hello"])

    async def test_payload_is_any_bytes(self) -> None:
        """A payload may hold line ends and what looks like operations."""
        raw = await self.raw(await self.server())
        self.assertEqual(await raw.exchange(b"SUB a 1\r\nPUB a 11\r\n\r\nPUB x 0\r\n\r\n"), [b"MSG a 1 11", b"", b"PUB x 0", b""])

    async def test_order_of_one_publisher(self) -> None:
        """Messages of one publisher come in the order in which they were sent."""
        server = await self.server()
        one, two = await self.raw(server), await self.raw(server)
        await one.exchange(b"SUB a 1\r\n")
        await two.exchange(b"".join(b"PUB a 3\r\n%03d\r\n" % number for number in range(200)))
        lines = await one.exchange()
        self.assertEqual(lines[1::2], [b"%03d" % number for number in range(200)])

    async def test_each_subscription_gets_a_copy(self) -> None:
        """Several subscriptions of one client that match each get the message."""
        raw = await self.raw(await self.server())
        lines = await raw.exchange(b"SUB a 1\r\nSUB a 2\r\nSUB > 3\r\nPUB a 0\r\n\r\n")
        self.assertEqual(sorted(lines[::2]), [b"MSG a 1 0", b"MSG a 2 0", b"MSG a 3 0"])

    async def test_subscription_id_is_any_word(self) -> None:
        """The server takes any text for a sid."""
        raw = await self.raw(await self.server())
        self.assertEqual(await raw.exchange(b"SUB a x1\r\nPUB a 0\r\n\r\n"), [b"MSG a x1 0", b""])

    async def test_subscription_id_in_use(self) -> None:
        """A second SUB with a sid that is in use changes nothing."""
        raw = await self.raw(await self.server())
        self.assertEqual(await raw.exchange(b"SUB a 1\r\nSUB b 1\r\nPUB b 0\r\n\r\nPUB a 0\r\n\r\n"), [b"MSG a 1 0", b""])

    async def test_without_echo(self) -> None:
        """A client without echo does not get its own messages; others do."""
        server = await self.server()
        one, two = await self.raw(server, echo=False), await self.raw(server)
        await one.exchange(b"SUB a 1\r\n")
        await two.exchange(b"SUB a 1\r\n")
        self.assertEqual(await one.exchange(b"PUB a 0\r\n\r\n"), [])
        self.assertEqual(await two.exchange(b"PUB a 1\r\nz\r\n"), [b"MSG a 1 0", b"", b"MSG a 1 1", b"z"])
        self.assertEqual(await one.exchange(), [b"MSG a 1 1", b"z"])

    async def test_gone_clients_get_nothing(self) -> None:
        """A client that has gone counts no more for anybody."""
        server = await self.server()
        one, two = await self.raw(server), await self.raw(server)
        await one.exchange(b"SUB a 1\r\n")
        await self.do(self._hang_up, one)
        await self.sleep(0.05)
        lines = await two.exchange(b"SUB r 1\r\nPUB a r 0\r\n\r\n")
        self.assertEqual(lines[1], b"NATS/1.0 503")

    async def test_too_many_subscriptions(self) -> None:
        """A subscription over the limit is refused, the connection stays; when another ends there is room."""
        raw = await self.raw(await self.server({"max_subscriptions": 2}))
        self.assertEqual(await raw.exchange(b"SUB a 1\r\nSUB b 2\r\nSUB c 3\r\n"), [b"-ERR 'maximum subscriptions exceeded'"])
        self.assertEqual(await raw.exchange(b"UNSUB 1\r\nSUB c 3\r\nPUB c 0\r\n\r\n"), [b"MSG c 3 0", b""])


class UnsubscribeCases(Harness):
    """UNSUB."""

    async def test_unsubscribe(self) -> None:
        """Nothing comes behind an UNSUB, and the sid can be used again."""
        raw = await self.raw(await self.server())
        self.assertEqual(await raw.exchange(b"SUB a 1\r\nUNSUB 1\r\nPUB a 0\r\n\r\n"), [])
        self.assertEqual(await raw.exchange(b"SUB b 1\r\nPUB b 0\r\n\r\n"), [b"MSG b 1 0", b""])

    async def test_unsubscribe_what_is_not_there(self) -> None:
        """An UNSUB for a sid that nobody has is no error."""
        raw = await self.raw(await self.server())
        self.assertEqual(await raw.exchange(b"UNSUB 99\r\n"), [])

    async def test_limit(self) -> None:
        """With a limit of two, two messages come."""
        raw = await self.raw(await self.server())
        lines = await raw.exchange(b"SUB a 1\r\nUNSUB 1 2\r\n" + b"PUB a 0\r\n\r\n" * 3)
        self.assertEqual(lines, [b"MSG a 1 0", b""] * 2)

    async def test_limit_counts_from_the_beginning(self) -> None:
        """Messages before the UNSUB count; a limit that is reached ends the subscription at once."""
        raw = await self.raw(await self.server())
        lines = await raw.exchange(b"SUB a 1\r\nPUB a 1\r\n1\r\nUNSUB 1 2\r\nPUB a 1\r\n2\r\nPUB a 1\r\n3\r\n")
        self.assertEqual(lines[1::2], [b"1", b"2"])
        lines = await raw.exchange(b"SUB b 2\r\nPUB b 1\r\n1\r\nUNSUB 2 1\r\nPUB b 1\r\n2\r\n")
        self.assertEqual(lines[1::2], [b"1"])

    async def test_limit_that_is_no_number(self) -> None:
        """A limit that cannot be read counts as none."""
        raw = await self.raw(await self.server())
        self.assertEqual(await raw.exchange(b"SUB a 1\r\nUNSUB 1 x\r\nPUB a 0\r\n\r\n"), [])

    async def test_limit_ends_the_responder(self) -> None:
        """A subscription that has got its last message is nobody to answer any more."""
        raw = await self.raw(await self.server())
        lines = await raw.exchange(b"SUB r 1\r\nSUB a 2\r\nUNSUB 2 1\r\nPUB a r 0\r\n\r\nPUB a r 0\r\n\r\n")
        self.assertEqual((lines[0], lines[3]), (b"MSG a 2 r 0", b"NATS/1.0 503"))


class QueueCases(Harness):
    """Queue groups."""

    async def test_one_member_gets_it(self) -> None:
        """Of the members of a group, over all clients, exactly one gets each message; over many messages, each of them some."""
        server = await self.server()
        members = [await self.raw(server) for _ in range(3)]
        for member in members:
            await member.exchange(b"SUB a workers 1\r\n")
        await members[0].exchange(b"PUB a 0\r\n\r\n" * 300 + b"PUB b 0\r\n\r\n")
        counts = [len(await member.exchange()) // 2 for member in members[1:]]
        self.assertTrue(all(30 < count < 270 for count in counts), counts)

    async def test_all_members_together_get_all(self) -> None:
        """No message of a group is lost or doubled."""
        raw = await self.raw(await self.server())
        lines = await raw.exchange(b"SUB a q 1\r\nSUB a q 2\r\n" + b"".join(b"PUB a 2\r\n%02d\r\n" % number for number in range(50)))
        self.assertEqual(lines[1::2], [b"%02d" % number for number in range(50)])
        self.assertEqual({line.split()[2] for line in lines[::2]}, {b"1", b"2"})

    async def test_each_group_gets_it(self) -> None:
        """Each group gets the message once, and each plain subscription as well."""
        raw = await self.raw(await self.server())
        lines = await raw.exchange(b"SUB a q 1\r\nSUB a p 2\r\nSUB a 3\r\nSUB a p 4\r\nUNSUB 4\r\nPUB a 0\r\n\r\n")
        self.assertEqual(sorted(lines[::2]), [b"MSG a 1 0", b"MSG a 2 0", b"MSG a 3 0"])

    async def test_group_over_different_subjects(self) -> None:
        """Members of a group with different subjects that match share the messages."""
        raw = await self.raw(await self.server())
        lines = await raw.exchange(b"SUB a.* q 1\r\nSUB a.> q 2\r\n" + b"PUB a.b 0\r\n\r\n" * 20)
        self.assertEqual(len(lines), 40)

    async def test_member_without_echo(self) -> None:
        """A member without echo is passed over for its own messages."""
        server = await self.server()
        one, two = await self.raw(server, echo=False), await self.raw(server)
        await one.exchange(b"SUB a q 1\r\n")
        await two.exchange(b"SUB a q 1\r\n")
        await one.exchange(b"PUB a 0\r\n\r\n" * 20)
        self.assertEqual(len(await two.exchange()), 40)


class HeaderCases(Harness):
    """Headers on the wire."""

    async def test_headers_arrive(self) -> None:
        """An HPUB comes as HMSG, with the sizes of headers and of all."""
        raw = await self.raw(await self.server())
        self.assertEqual(
            await raw.exchange(b"SUB a 1\r\nHPUB a r 18 20\r\nNATS/1.0\r\nA: 1\r\n\r\nhi\r\n"),
            [b"HMSG a 1 r 18 20", b"NATS/1.0", b"A: 1", b"", b"hi"],
        )

    async def test_header_block_is_not_read(self) -> None:
        """The server relays what stands in the place of headers, whatever it is."""
        raw = await self.raw(await self.server())
        self.assertEqual(await raw.exchange(b"SUB a 1\r\nHPUB a 5 7\r\nxxxxxhi\r\n"), [b"HMSG a 1 5 7", b"xxxxxhi"])

    async def test_client_without_headers_gets_the_payload(self) -> None:
        """A client that did not announce headers gets the message without them."""
        server = await self.server()
        old, new = await self.raw(server, headers=False, no_responders=False), await self.raw(server)
        await old.exchange(b"SUB a 1\r\n")
        await new.exchange(b"HPUB a 12 14\r\nNATS/1.0\r\n\r\nhi\r\n")
        self.assertEqual(await old.exchange(), [b"MSG a 1 2", b"hi"])

    async def test_headers_have_to_be_announced(self) -> None:
        """An HPUB of a client that did not announce headers ends the connection without a word."""
        server = await self.server()
        data = b"HPUB a 12 14\r\nNATS/1.0\r\n\r\nhi\r\n"
        self.assertEqual(await self.refused(server, data, headers=False, no_responders=False), [])


class NoRespondersCases(Harness):
    """The answer to a request that nobody listens to."""

    async def test_status_and_subject(self) -> None:
        """It is a 503 with the subject in a header, without a payload, to the publisher's subscription."""
        raw = await self.raw(await self.server())
        self.assertEqual(
            await raw.exchange(b"SUB r.* 1\r\nPUB nobody r.1 2\r\nhi\r\n"),
            [b"HMSG r.1 1 38 38", b"NATS/1.0 503", b"Nats-Subject: nobody", b"", b""],
        )

    async def test_none_without_a_reply_subject(self) -> None:
        """A publish without a reply subject gets no such answer."""
        raw = await self.raw(await self.server())
        self.assertEqual(await raw.exchange(b"SUB r.* 1\r\nPUB nobody 2\r\nhi\r\n"), [])

    async def test_none_without_a_subscription(self) -> None:
        """It goes to nobody but the publisher itself."""
        server = await self.server()
        one, two = await self.raw(server), await self.raw(server)
        await one.exchange(b"SUB r.1 1\r\n")
        self.assertEqual(await two.exchange(b"PUB nobody r.1 0\r\n\r\n"), [])
        self.assertEqual(await one.exchange(), [])

    async def test_none_where_it_was_not_asked_for(self) -> None:
        """A client without no_responders gets none."""
        raw = await self.raw(await self.server(), no_responders=False)
        self.assertEqual(await raw.exchange(b"SUB r.* 1\r\nPUB nobody r.1 0\r\n\r\n"), [])

    async def test_none_where_somebody_listens(self) -> None:
        """Where anybody got the message there is none, a queue group included."""
        raw = await self.raw(await self.server())
        self.assertEqual(await raw.exchange(b"SUB r 1\r\nSUB a q 2\r\nPUB a r 0\r\n\r\n"), [b"MSG a 2 r 0", b""])

    async def test_own_subscription_without_echo_is_nobody(self) -> None:
        """A client without echo that alone listens gets a 503 for its own request."""
        raw = await self.raw(await self.server(), echo=False)
        lines = await raw.exchange(b"SUB a 1\r\nSUB r 2\r\nPUB a r 0\r\n\r\n")
        self.assertEqual(lines[1:2], [b"NATS/1.0 503"])

    async def test_limit_does_not_count_it(self) -> None:
        """It does not count for the limit of the subscription that gets it."""
        raw = await self.raw(await self.server())
        lines = await raw.exchange(b"SUB r.* 1\r\nUNSUB 1 1\r\nPUB n r.1 0\r\n\r\nPUB n r.2 0\r\n\r\n")
        self.assertEqual(lines.count(b"NATS/1.0 503"), 2)
