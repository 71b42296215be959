#!/usr/bin/env bash
# One NO_PROXY, two readings: `kubernetes.client` goes directly to a server that an entry names as a network or with its
# port; `kubernetes.aio` of the same package, and aiohttp with `trust_env`, go through the proxy.
source "$(dirname "$0")/lib.sh"
pip_packages kubernetes==37.0.2 aiohttp==3.14.5

cat >"$folder/run.py" <<'PYTHON'
import asyncio
import http.server
import json
import os
import threading

import aiohttp
from kubernetes import aio, client

FIELDS = "major minor gitVersion gitCommit gitTreeState buildDate goVersion compiler platform".split()
VERSION = json.dumps(dict.fromkeys(FIELDS, "")).encode()
asked = []


class Version(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        asked.append(self.server.role)
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(VERSION)))
        self.end_headers()
        self.wfile.write(VERSION)

    def log_message(self, *args):
        pass


def serve(role):
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Version)
    server.role = role
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server.server_address[1]


api, proxy = f"127.0.0.1:{serve('directly')}", f"127.0.0.1:{serve('by the proxy')}"


def by_client():
    client.VersionApi(client.ApiClient(client.Configuration(host=f"http://{api}"))).get_code()


async def by_aio():
    async with aio.client.ApiClient(aio.client.Configuration(host=f"http://{api}")) as session:
        await aio.client.VersionApi(session).get_code()


async def by_aiohttp():
    async with aiohttp.ClientSession(trust_env=True) as session:
        await (await session.get(f"http://{api}/version")).read()


for name in ("HTTP_PROXY", "http_proxy"):
    os.environ[name] = f"http://{proxy}"
for entry, shown in (("127.0.0.1", "the address"), (api, "address:port"), ("127.0.0.0/8", "a network")):
    os.environ["NO_PROXY"] = os.environ["no_proxy"] = entry
    by_client()
    asyncio.run(by_aio())
    asyncio.run(by_aiohttp())
    ways = dict(zip(("kubernetes.client", "kubernetes.aio", "aiohttp"), asked, strict=True))
    asked.clear()
    print(f"NO_PROXY={shown}: " + ", ".join(f"{who} {way}" for who, way in ways.items()))
PYTHON

"$python" "$folder/run.py" >"$folder/seen"
expect "$folder/seen" <<'SEEN'
NO_PROXY=the address: kubernetes.client directly, kubernetes.aio directly, aiohttp directly
NO_PROXY=address:port: kubernetes.client directly, kubernetes.aio by the proxy, aiohttp by the proxy
NO_PROXY=a network: kubernetes.client directly, kubernetes.aio by the proxy, aiohttp by the proxy
SEEN
