"""A cluster of real nats-servers of the testing kit does what its documentation says."""

from __future__ import annotations

import signal

from twisted.internet.defer import CancelledError
from twisted.trial.unittest import TestCase

from pynats_twisted.errors import ConfigurationError, ServerProcessError
from pynats_twisted.testing import ServerCluster, ServerProcess
from tests.support.integration import IntegrationTestCase
from tests.support.witness import first_info


def gossip(server: ServerProcess) -> set[str]:
    """The addresses that a server tells its clients."""
    return set(first_info(server.host, server.port).get("connect_urls", ()))


class ClusterTests(IntegrationTestCase):
    """With a reactor."""

    async def test_started_cluster_gossips_all_its_servers(self) -> None:
        """When start() has fired, each server tells its clients where all of them are."""
        cluster = await self.start_cluster(3)
        addresses = {server.host_port for server in cluster.servers}
        self.assertEqual(len(addresses), 3)
        for server in cluster.servers:
            self.assertEqual(gossip(server), addresses)
        self.assertEqual(cluster.urls, [server.url for server in cluster.servers])

    async def test_messages_cross_the_cluster(self) -> None:
        """What is published on one server arrives on another."""
        cluster = await self.start_cluster(2, name="crossing")
        self.assertEqual(first_info("127.0.0.1", cluster.servers[0].port)["cluster"], "crossing")
        subscriber = self.witness(cluster.servers[1], "hello")
        publisher = self.witness(cluster.servers[0])
        # Interest travels between servers after the PONG of its own server.
        await self.until(lambda: publisher.publish("hello") or subscriber.messages)

    async def test_killed_server_leaves_the_gossip_and_comes_back(self) -> None:
        """The others notice that a server was killed, and that it is there again, on its old address."""
        cluster = await self.start_cluster(3)
        lost, *others = cluster.servers
        witness = self.witness(others[0])
        self.assertEqual(await lost.kill(), -signal.SIGKILL)
        await cluster.wait_formed()
        witness.wait_for_info(lambda info: set(info.get("connect_urls", ())) == {server.host_port for server in others})
        await lost.start()
        await cluster.wait_formed()
        self.assertEqual(gossip(others[0]), {server.host_port for server in cluster.servers})

    async def test_rolling_restart_restarts_each_server_once(self) -> None:
        """After a rolling restart all processes are new, the addresses are the old ones, and they are one cluster."""
        cluster = await self.start_cluster(3)
        before = [(server.pid, server.url) for server in cluster.servers]
        await cluster.rolling_restart()
        after = [(server.pid, server.url) for server in cluster.servers]
        self.assertEqual([url for _, url in before], [url for _, url in after])
        self.assertFalse({pid for pid, _ in before} & {pid for pid, _ in after})
        for server in cluster.servers:
            self.assertEqual(len(gossip(server)), 3)

    async def test_server_is_added_and_removed(self) -> None:
        """A server that is added is gossiped by all; one that is removed is forgotten by all."""
        cluster = await self.start_cluster(2)
        first, second = cluster.servers
        third = await cluster.add_server()
        for server in (first, second, third):
            self.assertEqual(gossip(server), {first.host_port, second.host_port, third.host_port})
        await cluster.remove_server(first)
        self.assertFalse(first.is_running)
        self.assertEqual(cluster.servers, [second, third])
        for server in (second, third):
            self.assertEqual(gossip(server), {second.host_port, third.host_port})

    async def test_jetstream_cluster_is_ready_for_replicated_streams(self) -> None:
        """With jetstream=True, a stream with three replicas can be made as soon as the cluster has started."""
        cluster = await self.start_cluster(3, jetstream=True)
        witness = self.witness(cluster.servers[0], "reply")
        witness.publish("$JS.API.STREAM.CREATE.S", b'{"name":"S","subjects":["s"],"num_replicas":3}', reply="reply")
        answer = witness.next(timeout=10).payload
        self.assertIn(b'"created"', answer)
        self.assertNotIn(b'"error"', answer)

    async def test_servers_share_one_authority(self) -> None:
        """A client that trusts one server with TLS trusts them all."""
        cluster = await self.start_cluster(2, tls=True)
        context = cluster.servers[0].authority.client_context()
        for server in cluster.servers:
            self.witness(server, tls=context)

    async def test_failed_start_leaves_no_process(self) -> None:
        """When a server of the cluster does not start, none is left running, and the error has its reason."""
        cluster = ServerCluster(self.reactor, 2, "no_such_option: 1")
        self.addCleanup(cluster.close)
        error = await self.assertFailure(cluster.start(), ServerProcessError)
        self.assertIn("no_such_option", str(error))
        self.assertEqual([server.is_running for server in cluster.servers], [False, False])

    async def test_cancelled_start_leaves_no_process(self) -> None:
        """Cancelling the Deferred of start() ends all processes that were started so far."""
        cluster = ServerCluster(self.reactor, 3)
        self.addCleanup(cluster.close)
        starting = cluster.start()
        await self.until(lambda: cluster.servers[1].is_running)
        self.assertTrue(cluster.servers[0].is_running)
        starting.cancel()
        await self.assertFailure(starting, CancelledError)
        self.assertEqual([server.is_running for server in cluster.servers], [False, False, False])

    async def test_cluster_that_does_not_form_says_so(self) -> None:
        """wait_formed() fails after its timeout when a server cannot reach the others, with the servers' logs."""
        cluster = await self.start_cluster(2)
        # Frozen, it is still a process that runs, and answers nobody.
        await cluster.servers[1].pause()
        error = await self.assertFailure(cluster.wait_formed(0.1), ServerProcessError)
        self.assertIn("did not form within 0.1 seconds", str(error))
        self.assertIn("Server is ready", str(error))

    async def test_async_with(self) -> None:
        """``async with`` gives a started cluster and closes it."""
        async with ServerCluster(self.reactor, 2) as cluster:
            self.assertEqual(len(gossip(cluster.servers[0])), 2)
        self.assertEqual([server.is_running for server in cluster.servers], [False, False])


class BlockingClusterTests(TestCase):
    """Without a reactor."""

    def test_every_operation(self) -> None:
        """All that can be done with a reactor can be done without."""
        with ServerCluster.running(2) as cluster:
            cluster.rolling_restart(kill=True, down=0.01, between=0.01)
            third = cluster.add_server()
            self.assertEqual(len(first_info(third.host, third.port)["connect_urls"]), 3)
            cluster.remove_server(third)
            cluster.servers[0].kill()
            cluster.wait_formed()
            self.assertEqual(len(cluster.urls), 2)
        self.assertEqual([server.is_running for server in cluster.servers], [False, False])

    def test_refused_options(self) -> None:
        """What cannot be is an error that names the option."""
        for options, name in (({"size": 0}, "size"), ({"port": 4222}, "port"), ({"directory": "."}, "directory")):
            error = self.assertRaises(ConfigurationError, ServerCluster.running(**options).__enter__)
            self.assertIn(name, str(error))
