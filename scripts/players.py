#!/usr/bin/env python3
"""Real players on a real mesh: ffmpeg and Chromium, also while a relay on their path is killed in mid-segment.

A ring of twelve peers whose links carry 100 kB a second, one gateway (peer-1), the listener opposite (peer-7). The demo song
is heard through the mesh; what the player decodes must equal the files on disk, bit for bit. Each test has its own mesh.

Usage: scripts/players.py [TEST ...]; HOPCAST_BIN_DIR says where the programs are. Needs ffmpeg, chromium and playwright.
"""

import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parent.parent
BIN = pathlib.Path(os.environ.get("HOPCAST_BIN_DIR", ROOT / "target/release"))
SONG = ROOT / "songs/demo/master.m3u8"
TOPOLOGY = """
[mesh]
name = "players"
[peers]
count = 12
links = {{ shape = "ring" }}
[[rooms]]
name = "rock"
peers = ["*"]
[[edges]]
name = "edge-db-a"
network = "edge-a-net"
peers = ["peer-1"]
[origin]
name = "origin-db"
network = "origin-net"
[[songs]]
path = "{song}"
rooms = ["*"]
[signalling]
listen = "127.0.0.1:17180"
[local]
network = "127.91.0.0/16"
door = "127.0.0.1:17181"
"""
SLOW = '[[links]]\nbetween = ["peer-{a}", "peer-{b}"]\nrate = "100kB/s"\n'
LISTENER = "http://127.91.0.7:8080"


class Mesh:
    """The mesh of one test; it is down and its state is gone when the block ends, whatever happened to the test."""

    def __enter__(self):
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix="hopcast-players-"))
        self.dir.chmod(0o755)
        links = "".join(SLOW.format(a=n, b=n % 12 + 1) for n in range(1, 13))
        (self.dir / "topology.toml").write_text(TOPOLOGY.format(song=SONG.parent) + links)
        try:
            self.run("up", "--detach")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        try:
            self.run("down", "--purge")
        except BaseException:
            # It may run still, and only its state says what of it does.
            print(f"the mesh is not down: HOPCAST_STATE={self.dir} hopcast down --name players --purge", flush=True)
            raise
        shutil.rmtree(self.dir, ignore_errors=True)

    def run(self, *args):
        env = {**os.environ, "HOPCAST_STATE": str(self.dir)}
        done = subprocess.run([BIN / "hopcast", *args, "--json", "--file", self.dir / "topology.toml"], env=env, timeout=180,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        if done.returncode != 0:
            raise AssertionError(f"hopcast {' '.join(args)} exited {done.returncode}:\n{done.stdout}\n{done.stderr}")
        return json.loads(done.stdout.strip().splitlines()[-1])

    def pid(self, peer):
        return next(node["pid"] for node in self.run("status")["nodes"] if node["name"] == peer)


def get(url):
    with urllib.request.urlopen(url, timeout=5) as answer:
        return answer.read().decode()


def metric(peer, name):
    """The sum of a metric's series at a peer (number, or None where it has no such metric)."""
    values = re.findall(rf"^{name}(?:\{{[^}}]*\}})? ([0-9.e+-]+)$", get(f"http://127.91.0.{peer}:8080/metrics"), re.M)
    return sum(map(float, values)) if values else None


def wait(what, condition, seconds=30):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        value = condition()
        if value:
            return value
        time.sleep(0.01)
    raise AssertionError(f"waited {seconds} s for {what}")


def kill_a_relay_in_mid_segment(mesh):
    """Kills the relay that is carrying bytes of the listener's at this moment: peer-4 one way round, peer-10 the other."""
    pids = {4: mesh.pid("peer-4"), 10: mesh.pid("peer-10")}
    before = {}

    def carrying(relay):
        # In mid-segment: 8 kB have passed since it was idle, of 35 kB or more. Not many more: the time that the rest takes
        # (200 ms) is the time that the kill has to arrive.
        idle = not metric(relay, "hopcast_relay_transfers")
        passed = metric(relay, "hopcast_relay_bytes_total")
        if idle:
            before[relay] = passed
        return not idle and 8_000 < passed - before.get(relay, passed) < 16_000

    busy = wait("a relay to carry bytes", lambda: next(filter(carrying, pids), None))
    os.kill(pids[busy], signal.SIGKILL)
    return busy


def md5(source, during=None):
    """MD5 over the decoded samples of every rendition, as ffmpeg hears it."""
    player = subprocess.Popen(["ffmpeg", "-nostdin", "-v", "error", "-i", str(source), "-map", "0:a", "-f", "md5", "-"],
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        if during:
            during()
        out, err = player.communicate(timeout=120)
    finally:
        player.kill()
    assert player.returncode == 0 and re.fullmatch(r"MD5=[0-9a-f]{32}\n", out), f"ffmpeg exited {player.returncode}: {out}{err}"
    assert not err, f"ffmpeg complains: {err}"
    return out


def chromium(during=None):
    """Plays the song to its end in Chromium's own audio element; what happened to it, as a dictionary."""
    from playwright.sync_api import sync_playwright

    flags = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
             "--disable-component-update", "--disable-sync", "--autoplay-policy=no-user-gesture-required"]
    with sync_playwright() as engine:
        browser = engine.chromium.launch(executable_path=shutil.which("chromium"), headless=True, args=flags)
        page = browser.new_page()
        page.goto(f"{LISTENER}/health")
        page.evaluate("""url => {
            const audio = document.createElement("audio");
            window.seen = {ended: 0, error: 0};
            audio.muted = true;
            audio.playbackRate = 2;
            for (const name of Object.keys(window.seen)) audio.addEventListener(name, () => window.seen[name]++);
            audio.src = url;
            document.body.append(audio);
            window.audio = audio;
            return audio.play();
        }""", f"{LISTENER}/hls/demo/master.m3u8")
        if during:
            during()
        page.wait_for_function("window.seen.ended || window.seen.error", timeout=90_000)
        seen = page.evaluate("({...window.seen, at: audio.currentTime, length: audio.duration, message: audio.error && audio.error.message})")
        browser.close()
    return seen


def test_ffmpeg_hears_what_the_files_say():
    with Mesh():
        assert md5(f"{LISTENER}/hls/demo/master.m3u8") == md5(SONG)


def test_ffmpeg_hears_the_same_while_a_relay_is_killed_in_mid_segment():
    with Mesh() as mesh:
        heard = md5(f"{LISTENER}/hls/demo/master.m3u8", lambda: kill_a_relay_in_mid_segment(mesh))
        assert heard == md5(SONG)
        assert metric(7, "hopcast_fetch_resumes_total"), "the listener's peer resumed nothing: the kill was not in mid-segment"


def test_chromium_plays_to_the_end():
    with Mesh():
        seen = chromium()
        assert seen["ended"] == 1 and not seen["error"] and seen["at"] > 32, seen


def test_chromium_plays_to_the_end_while_a_relay_is_killed_in_mid_segment():
    with Mesh() as mesh:
        killed = []
        seen = chromium(lambda: killed.append(kill_a_relay_in_mid_segment(mesh)))
        assert killed and seen["ended"] == 1 and not seen["error"] and seen["at"] > 32, seen
        assert metric(7, "hopcast_fetch_resumes_total"), "the listener's peer resumed nothing: the kill was not in mid-segment"


def main():
    tests = {name: value for name, value in globals().items() if name.startswith("test_")}
    unknown = [name for name in sys.argv[1:] if name not in tests]
    if unknown:
        sys.exit(f"no such test: {', '.join(unknown)}")
    # Every mesh is taken down on the way out.
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    passed = failed = 0
    for name in sys.argv[1:] or tests:
        begin = time.monotonic()
        try:
            tests[name]()
            passed += 1
            print(f"ok     {name} ({time.monotonic() - begin:.1f} s)", flush=True)
        except Exception:
            failed += 1
            print(f"FAILED {name}\n{traceback.format_exc()}", flush=True)
    print(f"players: {passed} passed, {failed} failed")
    sys.exit(failed != 0)


if __name__ == "__main__":
    main()
