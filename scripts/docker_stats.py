#!/usr/bin/env python3
"""What the containers of a mesh take, as `docker stats` counts it, from the engine's API. Needs nothing but Python.

    scripts/docker_stats.py MESH [--idle SECONDS] [--caches PLAN.json]

One JSON object: memory in MiB of the peers (max, median), of all containers, of their shims; with --idle what all
peers together take of one core over so many seconds, in per cent; with --caches the peers' memory without the bytes of
their cached segments, which it asks each peer for through the door that the plan (`hopcast plan --json`) names.
"""
import argparse
import http.client
import json
import os
import pathlib
import re
import socket
import statistics
import sys
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor

MESH, ROLE, NODE = "io.hopcast.mesh", "io.hopcast.role", "io.hopcast.node"
MIB = 1 << 20
AT_A_TIME, TIMEOUT, ATTEMPTS = 8, 30, 5


class Engine(http.client.HTTPConnection):
    """A connection to the engine's Unix socket."""

    def connect(self):
        host = os.environ.get("DOCKER_HOST") or "unix:///var/run/docker.sock"
        if not host.startswith("unix://"):
            sys.exit(f"error: DOCKER_HOST is {host}: only an engine of this machine can be looked at")
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(TIMEOUT)
        self.sock.connect(host.removeprefix("unix://"))


def ask(path):
    engine = Engine("docker")
    engine.request("GET", path)
    answer = engine.getresponse()
    body = answer.read()
    if answer.status != 200:
        sys.exit(f"error: the engine answered {answer.status} to {path}: {body[:200].decode(errors='replace')}")
    return json.loads(body)


def usage(container):
    """Bytes without the page cache that nobody has touched lately, and nanoseconds of processor time."""
    stats = ask(f"/containers/{container['Id']}/stats?stream=false&one-shot=true")
    memory = stats["memory_stats"]
    kinds = memory.get("stats", {})
    cache = kinds.get("total_inactive_file", kinds.get("inactive_file", 0))  # cgroup v1, v2
    return max(0, memory["usage"] - cache), stats["cpu_stats"]["cpu_usage"]["total_usage"]


def cached(door, peer):
    address = f"{door}/p/{peer}"
    for attempt in range(ATTEMPTS):
        try:
            with urllib.request.urlopen(f"http://{address}/metrics", timeout=TIMEOUT) as answer:
                text = answer.read().decode()
            break
        except urllib.error.HTTPError as error:
            # A peer that has used up its share of the processor answers late, and the door does not wait that long.
            if error.code != 504 or attempt == ATTEMPTS - 1:
                sys.exit(f"error: {address}/metrics: {error}")
    found = re.search(r"^hopcast\w*_cache_bytes ([0-9.e+]+)$", text, re.M)
    if not found:
        sys.exit(f"error: the metrics of {address} have no cache_bytes")
    return int(float(found[1]))


def shims(ids):
    """Proportional memory of the shims of these containers in bytes; None where this user may not look."""
    total = 0
    for process in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            if process.joinpath("comm").read_text().strip() != "containerd-shim":
                continue
            if ids.intersection(process.joinpath("cmdline").read_text().split("\0")):
                total += int(re.search(r"^Pss: +(\d+)", process.joinpath("smaps_rollup").read_text(), re.M)[1]) << 10
        except FileNotFoundError:
            continue  # it has ended meanwhile
        except (PermissionError, ProcessLookupError):
            return None
    return total


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("mesh")
    parser.add_argument("--idle", type=float, default=0)
    parser.add_argument("--caches", type=pathlib.Path)
    arguments = parser.parse_args()
    filters = json.dumps({"label": [f"{MESH}={arguments.mesh}"]})
    containers = ask(f"/containers/json?filters={urllib.request.quote(filters)}")
    peers = [one for one in containers if one["Labels"].get(ROLE) == "peer"]
    if not peers:
        sys.exit(f"error: no peer of mesh {arguments.mesh} runs on this engine")
    result = {"peers": len(peers), "containers": len(containers)}
    with ThreadPoolExecutor(AT_A_TIME) as pool:
        if arguments.idle:
            before, begin = list(pool.map(usage, peers)), time.monotonic()
            time.sleep(arguments.idle)
            after, seconds = list(pool.map(usage, peers)), time.monotonic() - begin
            spent = sum(b[1] - a[1] for a, b in zip(before, after))
            result["idle_cpu_percent"] = round(spent / 1e9 / seconds * 100, 3)
        took = dict(zip((one["Id"] for one in containers), (bytes for bytes, _ in pool.map(usage, containers))))
        whole = [took[one["Id"]] for one in peers]
        result["peer_mib_max"] = round(max(whole) / MIB, 2)
        result["peer_mib_median"] = round(statistics.median(whole) / MIB, 2)
        result["peers_mib"] = round(sum(whole) / MIB, 1)
        result["containers_mib"] = round(sum(took.values()) / MIB, 1)
        shim = shims({one["Id"] for one in containers})
        result["shims_mib"] = None if shim is None else round(shim / MIB, 1)
        if arguments.caches:
            plan = json.loads(arguments.caches.read_text().splitlines()[-1])
            door = plan["local"]["door"]
            bytes_cached = list(pool.map(lambda one: cached(door, one["Labels"][NODE]), peers))
            net = [took - kept for took, kept in zip(whole, bytes_cached)]
            result["peer_cached_bytes_max"] = max(bytes_cached)
            result["peer_net_mib_max"] = round(max(net) / MIB, 2)
            result["peer_net_mib_median"] = round(statistics.median(net) / MIB, 2)
    print(json.dumps(result))


main()
