"""Network options of the Python SDK, both kinds: create, update_network, what is shown, refusals.

What they do to traffic is tests/integration/network_test.py's: there is no internet here.
"""

import inspect
import os
import sys
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))

import lib  # noqa: E402
from e2b import ALL_TRAFFIC, AsyncSandbox, Sandbox  # noqa: E402
from e2b.exceptions import SandboxException, SandboxNotFoundException  # noqa: E402


class Network:
    kind = None

    async def do(self, result):
        return await result if inspect.isawaitable(result) else result

    async def create(self, **options):
        sandbox = await self.do(self.kind.create(timeout=120, **options))
        self.addCleanup(Sandbox.kill, sandbox.sandbox_id)
        return sandbox

    async def shown(self, sandbox):
        return await self.do(sandbox.get_info())

    async def test_what_was_asked_for_is_shown(self):
        sandbox = await self.create(network={
            "allow_out": ["93.184.216.34", "10.9.0.0/16"],
            "deny_out": lambda context: [context.all_traffic],
            "mask_request_host": "localhost:${PORT}", "https_ports": [8443],
            "dns_servers": ["9.9.9.9"], "allow_public_traffic": False})  # fmt: skip
        network = (await self.shown(sandbox)).network
        self.assertEqual(network["allow_out"], ["93.184.216.34", "10.9.0.0/16"])
        self.assertEqual(network["deny_out"], [ALL_TRAFFIC])
        self.assertIs(network["allow_public_traffic"], False)
        self.assertEqual(network["mask_request_host"], "localhost:${PORT}")
        self.assertRegex(sandbox.traffic_access_token, "^[0-9a-f]{64}$")

    async def test_public_traffic_may_be_left_to_the_default(self):
        sandbox = await self.create(network={"allow_public_traffic": None})
        self.assertIsNone(sandbox.traffic_access_token)

    async def test_an_update_replaces_egress_and_keeps_ingress(self):
        sandbox = await self.create(network={"deny_out": ["1.1.1.1"], "mask_request_host": "a.b"})
        await self.do(sandbox.update_network({"allow_out": ["8.8.8.8"], "deny_out": [ALL_TRAFFIC]}))
        network = (await self.shown(sandbox)).network
        self.assertEqual((network["allow_out"], network["deny_out"], network["mask_request_host"]),
                         (["8.8.8.8"], [ALL_TRAFFIC], "a.b"))  # fmt: skip
        await self.do(self.kind.update_network(sandbox.sandbox_id, {"allow_internet_access": False}))
        info = await self.shown(sandbox)
        self.assertIs(info.allow_internet_access, False)
        self.assertNotIn("allow_out", info.network)

    async def test_without_internet_there_is_none(self):
        sandbox = await self.create(allow_internet_access=False)
        result = await self.do(sandbox.commands.run("timeout 3 getent hosts a.test || echo none"))
        self.assertEqual(result.stdout, "none\n")

    async def test_what_is_wrong_is_refused_in_fixed_words(self):
        sandbox = await self.create()
        for update, text in (
            ({"allow_out": ["no name"]}, "400: invalid allowed address no name"),
            ({"deny_out": ["a.test"]}, "400: invalid denied CIDR a.test"),
            ({"allow_out": ["a.test"]}, "400: When specifying allowed domains in allow out, you must "
             "include 'ALL_TRAFFIC' in deny out to block all other traffic."),
            ({"dns_servers": ["::1"]}, "400: invalid DNS server ::1: it must be an IPv4 address"),
            ({"egress_proxy": {"address": "localhost:1080"}},
             "400: invalid egress proxy address localhost:1080: it leads to an internal address"),
        ):  # fmt: skip
            with self.assertRaises(SandboxException) as caught:
                await self.do(sandbox.update_network(update))
            self.assertEqual(str(caught.exception), text)
            with self.assertRaises(SandboxException) as caught:
                await self.do(self.kind.create(network=update))
            self.assertEqual(str(caught.exception), text)
        with self.assertRaises(SandboxNotFoundException):
            await self.do(self.kind.update_network("inosuchsandbox0000000", {}))

    async def test_a_paused_sandbox_is_not_updated(self):
        sandbox = await self.create()
        await self.do(sandbox.pause())
        with self.assertRaises(SandboxException) as caught:
            await self.do(sandbox.update_network({}))
        self.assertIn("is not running", str(caught.exception))


class NetworkSync(Network, unittest.IsolatedAsyncioTestCase):
    kind = Sandbox


class NetworkAsync(Network, unittest.IsolatedAsyncioTestCase):
    kind = AsyncSandbox


del Network

if __name__ == "__main__":
    lib.main()
