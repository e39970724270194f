//! The second part of `hopcast bench play`: listeners beside the same ones straight at an nginx that serves the files.
//!
//! - A player, ffmpeg, at the end of a chain: from its start to the first sample of a song that no peer has yet.
//! - The same without a player's own work: connect, master playlist, media playlist, the whole of a first segment. Then
//!   segments one after the other.
//! - 50 listeners of one song at once, each at a peer of its own: how often the databases are read for each segment. The
//!   least that could be asked for is one read at each gateway that is nearest to some listener.

use std::{
    fmt::Write as _,
    fs,
    net::SocketAddr,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, anyhow, ensure};

use crate::{
    flow::Flow,
    percentile,
    play::{SEGMENT, null_packet, write_master, write_song},
    process::Running,
    programs,
    row::{Figures, Row, Target},
};

const LIMIT: Duration = Duration::from_secs(180);
const READY: Duration = Duration::from_secs(15);
const LISTENERS: usize = 50;
/// Peers of the mesh that the crowd listens in, and its gateways: two groups, at two edges.
const CROWD: usize = 60;
const GATEWAYS: [usize; 8] = [1, 2, 3, 4, 31, 32, 33, 34];
const PLAYED: usize = 8;

/// Links between a listener and the gateway.
const HOPS: [usize; 4] = [2, 5, 10, 20];

/// The player is here.
pub fn check_programs() -> Result<()> {
    programs::debian("ffmpeg").map(drop)
}

/// Measures all of it. `note` is told what is being done.
pub fn run(quick: bool, note: &dyn Fn(&str)) -> Result<Vec<Row>> {
    programs::debian("nginx")?;
    check_programs()?;
    let mut rows = samples(quick, note)?;
    rows.extend(alone(quick, note)?);
    rows.extend(crowd(quick, note)?);
    Ok(rows)
}

fn peer(number: usize) -> SocketAddr {
    SocketAddr::from(([127, 93, 0, number as u8], 8080))
}

fn get(host: SocketAddr, path: &str) -> String {
    format!("GET /{path} HTTP/1.1\r\nHost: {host}\r\n\r\n")
}

/// A listener, and where its song is.
struct Listener {
    flow: Flow,
    host: SocketAddr,
    prefix: &'static str,
}

impl Listener {
    /// Connects and reads both playlists.
    fn begin(host: SocketAddr, prefix: &'static str) -> Result<Self> {
        let mut flow = Flow::connect(host, Instant::now() + READY)?;
        for playlist in ["master.m3u8", "only/index.m3u8"] {
            flow.ask(&get(host, &format!("{prefix}{playlist}")))?;
        }
        Ok(Self { flow, host, prefix })
    }

    /// A whole segment; milliseconds.
    fn segment(&mut self, number: usize) -> Result<f64> {
        let begin = Instant::now();
        let length = self.flow.ask(&get(self.host, &format!("{}only/{number}.ts", self.prefix)))?;
        ensure!(length == SEGMENT, "a segment of {length} bytes instead of {SEGMENT}");
        Ok(begin.elapsed().as_secs_f64() * 1e3)
    }
}

/// Milliseconds until a new listener has a whole first segment.
fn first(host: SocketAddr, prefix: &'static str, number: usize) -> Result<f64> {
    let begin = Instant::now();
    Listener::begin(host, prefix)?.segment(number)?;
    Ok(begin.elapsed().as_secs_f64() * 1e3)
}

/// A player's start. Each song is played once.
fn samples(quick: bool, note: &dyn Fn(&str)) -> Result<Vec<Row>> {
    let (rounds, each) = if quick { (3, 2) } else { (5, 8) };
    let songs = HOPS.len() * rounds * each;
    let mesh = Mesh::prepare(&chain(HOPS[HOPS.len() - 1] + 1), &(0..songs).map(song).collect::<Vec<_>>())?;
    write_music(mesh.path(), songs)?;
    note(&format!("a mesh with {songs} songs of {MUSIC_SECONDS} s"));
    mesh.up()?;
    let (nginx, _running) = nginx(mesh.path())?;
    let mut next = 0..songs;
    let mut rows = Vec::new();
    for hops in HOPS {
        note(&format!("a player {hops} links from the gateway"));
        let (mut ours, mut theirs) = (vec![], vec![]);
        for _ in 0..rounds {
            let (mut mine, mut other) = (vec![], vec![]);
            for number in next.by_ref().take(each) {
                mine.push(first_sample(peer(hops + 1), &format!("hls/{}/", song(number)))?);
                other.push(first_sample(nginx, &format!("{}/", song(number)))?);
            }
            ours.push(percentile(&mine, 50.0).context("nothing was played")?);
            theirs.push(percentile(&other, 50.0).context("nothing was played")?);
        }
        let size = format!("ffmpeg {hops} links from the gateway, songs that no peer has");
        rows.push(Figures::new("play.sample", size, "ms", ours).theirs(theirs).row(Target::OverTheirs(3.0))?);
    }
    mesh.down()?;
    Ok(rows)
}

fn song(number: usize) -> String {
    format!("song-{number}")
}

/// Milliseconds from a player's start to its end, which is the first sample.
fn first_sample(host: SocketAddr, prefix: &str) -> Result<f64> {
    let mut player = Command::new(programs::debian("ffmpeg")?);
    player.args(["-v", "error", "-nostdin", "-i", &format!("http://{host}/{prefix}master.m3u8")]);
    player.args(["-map", "0:a", "-frames:a", "1", "-f", "null", "-"]);
    let begin = Instant::now();
    programs::output(&mut player, LIMIT)?;
    Ok(begin.elapsed().as_secs_f64() * 1e3)
}

const MUSIC_SECONDS: usize = 12;

/// So many songs of noise, which takes the bitrate that is asked for: made once, and told apart by a null packet
/// (ISO/IEC 13818-1 2.4.3.3) at the end of each segment.
fn write_music(dir: &Path, songs: usize) -> Result<()> {
    let made = dir.join("made");
    fs::create_dir(&made)?;
    let noise = format!("anoisesrc=duration={MUSIC_SECONDS}:seed=1:amplitude=0.3");
    let mut encoder = Command::new(programs::debian("ffmpeg")?);
    encoder.current_dir(&made).args(["-v", "error", "-nostdin", "-f", "lavfi", "-i", &noise]);
    encoder.args(["-c:a", "aac", "-b:a", "128k", "-f", "hls", "-hls_time", "6", "-hls_playlist_type", "vod"]);
    encoder.args(["-hls_segment_filename", "%d.ts", "index.m3u8"]);
    programs::output(&mut encoder, LIMIT)?;
    let playlist = fs::read(made.join("index.m3u8"))?;
    let segments: Vec<_> = (0..)
        .map(|number| made.join(format!("{number}.ts")))
        .take_while(|file| file.exists())
        .map(fs::read)
        .collect::<Result<_, _>>()?;
    ensure!(!segments.is_empty(), "ffmpeg made no segment");
    for number in 0..songs {
        let dir = dir.join(song(number));
        write_master(&dir)?;
        fs::write(dir.join("only/index.m3u8"), &playlist)?;
        for (sequence, segment) in segments.iter().enumerate() {
            fs::write(
                dir.join(format!("only/{sequence}.ts")),
                [&segment[..], &null_packet(number)].concat(),
            )?;
        }
    }
    Ok(())
}

fn alone(quick: bool, note: &dyn Fn(&str)) -> Result<Vec<Row>> {
    let (rounds, each) = if quick { (3, 12) } else { (5, 40) };
    // Nobody has a segment before it is asked for: each is asked for once.
    let count = HOPS.len() * rounds * each * 2;
    let mesh = Mesh::with_segments(&chain(HOPS[HOPS.len() - 1] + 1), count, note)?;
    let (nginx, _running) = nginx(mesh.path())?;
    let mut rows = Vec::new();
    let mut next = 0;
    let mut number = || {
        next += 1;
        next - 1
    };
    for hops in HOPS {
        note(&format!("a listener {hops} links from the gateway"));
        let host = peer(hops + 1);
        // The signed manifest, which a peer keeps, is got once.
        Listener::begin(host, "hls/song/")?;
        let (mut ours, mut theirs, mut p50, mut p99, mut straight) = (vec![], vec![], vec![], vec![], vec![]);
        for _ in 0..rounds {
            let (mut mine, mut other) = (vec![], vec![]);
            let (mut segments, mut files) = (vec![], vec![]);
            let mut kept = (Listener::begin(host, "hls/song/")?, Listener::begin(nginx, "song/")?);
            for _ in 0..each {
                let at = number();
                mine.push(first(host, "hls/song/", at)?);
                other.push(first(nginx, "song/", at)?);
                let at = number();
                segments.push(kept.0.segment(at)?);
                files.push(kept.1.segment(at)?);
            }
            let of = |values: &[f64], percent| percentile(values, percent).context("nothing was played");
            ours.push(of(&mine, 50.0)?);
            theirs.push(of(&other, 50.0)?);
            p50.push(of(&segments, 50.0)?);
            p99.push(of(&segments, 99.0)?);
            straight.push(of(&files, 99.0)?);
        }
        let size = format!("{hops} links to the gateway, segments of 94 kB that no peer has");
        rows.push(Figures::new("play.start", &size, "ms", ours).theirs(theirs).row(Target::OverTheirs(3.0))?);
        rows.push(
            Figures::new("play.segment_p99", &size, "ms", p99)
                .theirs(straight)
                .own(p50)
                .row(Target::OverOwn("p50", 5.0))?,
        );
    }
    mesh.down()?;
    Ok(rows)
}

fn crowd(quick: bool, note: &dyn Fn(&str)) -> Result<Vec<Row>> {
    let rounds = if quick { 2 } else { 5 };
    let mesh = Mesh::with_segments(&ring(), PLAYED * rounds, note)?;
    let (nginx, _running) = nginx(mesh.path())?;
    let listeners: Vec<usize> =
        (1..=CROWD).filter(|number| !GATEWAYS.contains(number)).take(LISTENERS).collect();
    let (mut reads, mut ours, mut theirs) = (vec![], vec![], vec![]);
    for round in 0..rounds {
        note(&format!("{LISTENERS} listeners at once: round {} of {rounds}", round + 1));
        let played = round * PLAYED..(round + 1) * PLAYED;
        for &number in &listeners {
            Listener::begin(peer(number), "hls/song/")?;
        }
        let before = database_reads()?;
        let hosts: Vec<_> = listeners.iter().map(|&number| peer(number)).collect();
        ours.push(all(&hosts, "hls/song/", played.clone())?);
        reads.push((database_reads()? - before) as f64 / PLAYED as f64);
        theirs.push(all(&vec![nginx; LISTENERS], "song/", played)?);
    }
    let nearest = nearest_gateways(&listeners);
    let size = format!("{LISTENERS} listeners, {nearest} gateways are nearest to some");
    let rows = vec![
        Figures::new("play.reads", &size, "reads/segment", reads).row(Target::AtMost(nearest as f64))?,
        Figures::new("play.crowd_start", &size, "ms", ours).theirs(theirs).row(Target::OverTheirs(3.0))?,
    ];
    mesh.down()?;
    Ok(rows)
}

/// All listeners at once, the whole of each segment one after the other; the median time until the first.
fn all(hosts: &[SocketAddr], prefix: &'static str, segments: std::ops::Range<usize>) -> Result<f64> {
    let firsts: Vec<Result<f64>> = thread::scope(|threads| {
        let threads: Vec<_> = hosts
            .iter()
            .map(|&host| {
                let segments = segments.clone();
                threads.spawn(move || {
                    let begin = Instant::now();
                    let mut listener = Listener::begin(host, prefix)?;
                    let mut first = 0.0;
                    for number in segments.clone() {
                        listener.segment(number)?;
                        if number == segments.start {
                            first = begin.elapsed().as_secs_f64() * 1e3;
                        }
                    }
                    Ok(first)
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().map_err(|_| anyhow!("a listener panicked"))?).collect()
    });
    percentile(&firsts.into_iter().collect::<Result<Vec<_>>>()?, 50.0).context("nobody listened")
}

/// Gateways that no other is nearer than to some listener; of several equally near ones the first counts.
fn nearest_gateways(listeners: &[usize]) -> usize {
    let hops = |from, to| crate::signalling::ring_hops(CROWD, from, to);
    let mut nearest: Vec<_> = listeners
        .iter()
        .filter_map(|&listener| GATEWAYS.into_iter().min_by_key(|&gateway| hops(listener, gateway)))
        .collect();
    nearest.sort_unstable();
    nearest.dedup();
    nearest.len()
}

fn database_reads() -> Result<u64> {
    GATEWAYS
        .into_iter()
        .map(|number| {
            let flow = Flow::connect(peer(number), Instant::now() + READY)?;
            let text = flow.text(&get(peer(number), "metrics"))?;
            let value = text.lines().find_map(|line| line.strip_prefix("hopcast_database_reads_total "));
            value
                .context("a gateway does not count its reads")?
                .trim()
                .parse::<u64>()
                .context("an odd number")
        })
        .sum()
}

/// A mesh of its own, taken down also after a failure.
struct Mesh {
    dir: tempfile::TempDir,
    down: bool,
}

impl Mesh {
    /// A mesh that is to have these songs, in folders of their names beside its file.
    fn prepare(links: &str, songs: &[String]) -> Result<Self> {
        let dir = tempfile::Builder::new()
            .prefix("hopcast-bench-")
            .permissions(fs::Permissions::from_mode(0o755))
            .tempdir()?;
        let mut text = format!(
            "[mesh]\nname = \"bench-listeners\"\n{links}[[rooms]]\nname = \"all\"\npeers = [\"*\"]\n\
             [origin]\nname = \"origin-db\"\nnetwork = \"origin-net\"\n[signalling]\nlisten = \"127.93.250.1:7080\"\n\
             [local]\nnetwork = \"127.93.0.0/16\"\ndoor = \"127.93.250.1:7081\"\n"
        );
        for song in songs {
            let _ = write!(text, "[[songs]]\npath = \"{song}\"\nrooms = [\"*\"]\n");
        }
        fs::write(dir.path().join("topology.toml"), text)?;
        Ok(Self { dir, down: false })
    }

    /// A mesh that runs, with one song of so many segments.
    fn with_segments(links: &str, segments: usize, note: &dyn Fn(&str)) -> Result<Self> {
        let mesh = Self::prepare(links, &["song".to_owned()])?;
        note(&format!("a mesh with {segments} segments"));
        write_song(&mesh.path().join("song"), segments)?;
        mesh.up()?;
        Ok(mesh)
    }

    fn up(&self) -> Result<()> {
        programs::output(&mut self.hopcast(&["up", "--detach"])?, LIMIT).map(drop)
    }

    fn path(&self) -> &Path {
        self.dir.path()
    }

    fn hopcast(&self, verb: &[&str]) -> Result<Command> {
        let mut command = Command::new(programs::ours("hopcast")?);
        command.args(verb).arg("--file").arg(self.path().join("topology.toml"));
        command.env("HOPCAST_STATE", self.path());
        Ok(command)
    }

    fn put_away(&self) -> Result<()> {
        programs::output_to_the_end(&mut self.hopcast(&["down", "--purge"])?, LIMIT).map(drop)
    }

    fn down(mut self) -> Result<()> {
        self.down = true;
        self.put_away()
    }
}

impl Drop for Mesh {
    fn drop(&mut self) {
        if !self.down {
            // The failure that led here is told instead.
            let _ = self.put_away();
        }
    }
}

/// A chain; its first peer is the gateway.
fn chain(count: usize) -> String {
    let mut links = String::new();
    for at in 1..count {
        // Writing into a string cannot fail.
        let _ = write!(links, "[[links]]\nbetween = [\"peer-{at}\", \"peer-{}\"]\n", at + 1);
    }
    format!(
        "[peers]\ncount = {count}\nlinks = {{ shape = \"none\" }}\n{links}\
         [[edges]]\nname = \"edge-db\"\nnetwork = \"edge-net\"\npeers = [\"peer-1\"]\n"
    )
}

/// The shipped shape, with two edges.
fn ring() -> String {
    let edge = |name: &str, gateways: &[usize]| {
        let peers: Vec<_> = gateways.iter().map(|number| format!("\"peer-{number}\"")).collect();
        format!(
            "[[edges]]\nname = \"edge-db-{name}\"\nnetwork = \"edge-{name}-net\"\npeers = [{}]\n",
            peers.join(", ")
        )
    };
    format!(
        "[peers]\ncount = {CROWD}\nlinks = {{ shape = \"ring\", skip = [4] }}\n{}{}",
        edge("a", &GATEWAYS[..4]),
        edge("b", &GATEWAYS[4..])
    )
}

/// Serves the song's folder.
fn nginx(dir: &Path) -> Result<(SocketAddr, Running)> {
    let at = SocketAddr::from(([127, 93, 250, 2], 8080));
    let scratch = dir.join("nginx");
    fs::create_dir(&scratch)?;
    let user = if rustix::process::geteuid().is_root() { "user root;\n" } else { "" };
    let shown = scratch.display();
    let text = format!(
        "{user}daemon off;\nworker_processes 1;\npid {shown}/pid;\nevents {{ worker_connections 512; }}\n\
         http {{\n  access_log off;\n  sendfile on;\n  tcp_nopush on;\n  open_file_cache max=1000;\n  keepalive_requests 1000000;\n\
         client_body_temp_path {shown}/body;\n  proxy_temp_path {shown}/proxy;\n  fastcgi_temp_path {shown}/fastcgi;\n\
         uwsgi_temp_path {shown}/uwsgi;\n  scgi_temp_path {shown}/scgi;\n\
         server {{ listen {at}; root {}; }}\n}}\n",
        dir.display()
    );
    let file = scratch.join("nginx.conf");
    fs::write(&file, text)?;
    let mut command = Command::new(programs::debian("nginx")?);
    command.arg("-c").arg(&file).arg("-p").arg(&scratch).args(["-e", "stderr"]);
    Ok((at, Running::start(command.stdout(Stdio::null()).stderr(Stdio::null()))?))
}
