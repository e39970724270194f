//! `hopcast bench play`: the first byte of an uncached segment at a player, by hops.
//!
//! A chain of peers, the first of them the gateway of the one edge. In turn: a segment that nobody has yet, asked of the
//! gateway (a database read and no hop), and another one, asked of the peer at the chain's end (the same read, and every
//! hop). Connections are warm, no link is emulated. The difference of the medians over the hops is what a hop costs.

use std::{
    fmt::Write as _,
    fs,
    net::{SocketAddr, TcpListener},
    os::unix::fs::PermissionsExt as _,
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use http_body_util::{BodyExt as _, Empty};
use hyper::{Request, StatusCode, body::Bytes, client::conn::http1::SendRequest};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use tokio::{net::TcpStream, time::timeout};

use crate::{
    median, programs,
    row::{Figures, Row, Target},
    stop,
};

const LIMIT: Duration = Duration::from_secs(120);
pub(crate) const SEGMENT: usize = 500 * 188;
const WARM: usize = 4;
const TARGET_MS: f64 = 1.0;

/// What was measured; times in milliseconds.
#[derive(Debug, Serialize)]
pub struct Report {
    /// Hops between the gateway and the far peer.
    pub hops: usize,
    /// Segments measured at each of the two.
    pub segments: usize,
    /// Bytes of a segment.
    pub segment_bytes: usize,
    /// Median first byte at the gateway: the database read.
    pub gateway_ms: f64,
    /// Median first byte at the far peer.
    pub far_ms: f64,
    /// The difference, for each hop.
    pub per_hop_ms: f64,
    /// What it should be at most.
    pub target_ms: f64,
    /// The same as rows.
    pub rows: Vec<Row>,
}

/// Measures `segments` segments over `hops` hops.
pub fn run(hops: usize, segments: usize, note: &dyn Fn(&str)) -> Result<Report> {
    ensure!(
        (1..=64).contains(&hops) && (1..=200).contains(&segments),
        "1 to 64 hops and 1 to 200 segments, please"
    );
    let dir = tempfile::Builder::new()
        .prefix("hopcast-bench-")
        .permissions(fs::Permissions::from_mode(0o755))
        .tempdir()?;
    let count = 2 * (segments + WARM);
    write_song(&dir.path().join("song"), count)?;
    let topology = dir.path().join("topology.toml");
    fs::write(&topology, chain(hops + 1)?)?;
    let hopcast = programs::ours("hopcast")?;
    let command = |verb: &[&str]| {
        let mut command = std::process::Command::new(&hopcast);
        command.args(verb).arg("--file").arg(&topology).env("HOPCAST_STATE", dir.path());
        command
    };
    note(&format!("a chain of {hops} hops, {count} segments of {SEGMENT} bytes"));
    let measured = programs::output(&mut command(&["up", "--detach"]), LIMIT).and_then(|_| {
        note("measuring");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async { timeout(LIMIT, measure(hops, segments)).await.context("it took too long")? })
    });
    let down = programs::output_to_the_end(&mut command(&["down", "--purge"]), LIMIT);
    let (gateway, far) = measured?;
    down?;
    let (gateway_ms, far_ms) = (median(&gateway).context("no segment")?, median(&far).context("no segment")?);
    let per_hop_ms = (far_ms - gateway_ms) / hops as f64;
    let size = format!("{hops} hops, {segments} segments of {SEGMENT} bytes");
    let rows = vec![Figures::new("play.hop", size, "ms", vec![per_hop_ms]).row(Target::AtMost(TARGET_MS))?];
    Ok(Report {
        rows,
        hops,
        segments,
        segment_bytes: SEGMENT,
        gateway_ms,
        far_ms,
        per_hop_ms,
        target_ms: TARGET_MS,
    })
}

fn peer(number: usize) -> SocketAddr {
    SocketAddr::from(([127, 90, 0, u8::try_from(number).unwrap_or(u8::MAX)], 8080))
}

async fn measure(hops: usize, segments: usize) -> Result<(Vec<f64>, Vec<f64>)> {
    let (mut gateway, mut far) = (Player::connect(peer(1)).await?, Player::connect(peer(hops + 1)).await?);
    let (mut at_gateway, mut at_far) = (Vec::new(), Vec::new());
    for pair in 0..segments + WARM {
        stop::check()?;
        let near = gateway.first_byte(2 * pair).await?;
        let distant = far.first_byte(2 * pair + 1).await?;
        if pair >= WARM {
            at_gateway.push(near);
            at_far.push(distant);
        }
    }
    Ok((at_gateway, at_far))
}

struct Player {
    connection: SendRequest<Empty<Bytes>>,
    host: String,
}

impl Player {
    async fn connect(address: SocketAddr) -> Result<Self> {
        let stream =
            TcpStream::connect(address).await.with_context(|| format!("failed to connect to {address}"))?;
        stream.set_nodelay(true)?;
        let (connection, driver) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(driver);
        Ok(Self { connection, host: address.to_string() })
    }

    /// Milliseconds from the request to the first byte of the body.
    async fn first_byte(&mut self, sequence: usize) -> Result<f64> {
        let request = Request::get(format!("/hls/song/only/{sequence}.ts"))
            .header("host", &self.host)
            .body(Empty::new())?;
        self.connection.ready().await?;
        let begin = Instant::now();
        let response = self.connection.send_request(request).await?;
        ensure!(
            response.status() == StatusCode::OK,
            "{} answered {} for segment {sequence}",
            self.host,
            response.status()
        );
        let mut body = response.into_body();
        let first = body.frame().await.context("an empty body")??;
        let elapsed = begin.elapsed().as_secs_f64() * 1e3;
        let mut length = first.data_ref().map_or(0, Bytes::len);
        while let Some(frame) = body.frame().await {
            length += frame?.data_ref().map_or(0, Bytes::len);
        }
        ensure!(length == SEGMENT, "{} sent {length} bytes of segment {sequence}, not {SEGMENT}", self.host);
        Ok(elapsed)
    }
}

fn chain(count: usize) -> Result<String> {
    // Held together, so that the two are not the same.
    let (signalling, door) = (TcpListener::bind("127.0.0.1:0")?, TcpListener::bind("127.0.0.1:0")?);
    let mut text = format!(
        "[mesh]\nname = \"bench-play\"\n[peers]\ncount = {count}\nlinks = {{ shape = \"none\" }}\n\
         [[rooms]]\nname = \"all\"\npeers = [\"*\"]\n\
         [[edges]]\nname = \"edge-db\"\nnetwork = \"edge-net\"\npeers = [\"peer-1\"]\n\
         [origin]\nname = \"origin-db\"\nnetwork = \"origin-net\"\n\
         [[songs]]\npath = \"song\"\nrooms = [\"*\"]\n\
         [signalling]\nlisten = \"{}\"\n[local]\nnetwork = \"127.90.0.0/16\"\ndoor = \"{}\"\n",
        signalling.local_addr()?,
        door.local_addr()?
    );
    for number in 1..count {
        let _ = write!(text, "[[links]]\nbetween = [\"peer-{number}\", \"peer-{}\"]\n", number + 1);
    }
    Ok(text)
}

/// The folder of a song with one quality, without its playlist and segments.
pub(crate) fn write_master(dir: &Path) -> Result<()> {
    fs::create_dir_all(dir.join("only"))?;
    fs::write(
        dir.join("master.m3u8"),
        "#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=200000,CODECS=\"mp4a.40.2\"\nonly/index.m3u8\n",
    )?;
    Ok(())
}

/// An MPEG-TS null packet (ISO/IEC 13818-1 2.4.3.3) that carries a number.
pub(crate) fn null_packet(number: usize) -> [u8; 188] {
    let mut packet = [0; 188];
    packet[..4].copy_from_slice(&[0x47, 0x1f, 0xff, 0x10]);
    packet[4..12].copy_from_slice(&(number as u64).to_be_bytes());
    packet
}

/// Null packets that carry the segment's number, so that no two are the same.
pub(crate) fn write_song(dir: &Path, count: usize) -> Result<()> {
    write_master(dir)?;
    let mut playlist =
        String::from("#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:4\n#EXT-X-MEDIA-SEQUENCE:0\n");
    for sequence in 0..count {
        fs::write(dir.join(format!("only/{sequence}.ts")), null_packet(sequence).repeat(SEGMENT / 188))?;
        let _ = write!(playlist, "#EXTINF:4,\n{sequence}.ts\n");
    }
    playlist.push_str("#EXT-X-ENDLIST\n");
    fs::write(dir.join("only/index.m3u8"), playlist)?;
    Ok(())
}
