//! A real player: ffmpeg plays what a peer serves, also when a relay dies meanwhile.
//!
//! ffmpeg forgives a missing segment and still exits with 0, so what it decoded is compared.

use std::{path::Path, process::Command};

use hopcast_protocol::Emulation;

use crate::support::{Mesh, room, song::Song, until};

fn folder() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../songs/demo"))
}

/// The MD5 of what ffmpeg decodes of a playlist.
fn decoded(playlist: &str) -> String {
    let output = Command::new("ffmpeg")
        .args(["-v", "error", "-i", playlist, "-map", "0:a", "-f", "md5", "-"])
        .output()
        .expect("ffmpeg is installed");
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// peer-1 is the gateway; peer-4 reaches it over peer-2 or peer-3.
fn mesh(net: u8, rate: Option<u64>) -> Mesh {
    let mut mesh = Mesh::new(net, &[(1, 2), (1, 3), (2, 4), (3, 4)], &[1]);
    for relay in [2, 3] {
        mesh.link(1, relay, Emulation { rate, ..Emulation::default() });
    }
    mesh.song = Song::from_folder(&mesh.secret, &[room("rock")], folder());
    mesh.up()
}

#[test]
fn ffmpeg_hears_the_same_as_from_the_files() {
    let mesh = mesh(60, None);
    let heard = decoded(&format!("http://{}/hls/demo/master.m3u8", mesh.address(4)));
    assert_eq!(heard, decoded(folder().join("master.m3u8").to_str().unwrap()));
}

#[test]
fn ffmpeg_hears_the_same_when_a_relay_dies() {
    let mut mesh = mesh(61, Some(250_000));
    let url = format!("http://{}/hls/demo/master.m3u8", mesh.address(4));
    let playing = std::thread::spawn(move || decoded(&url));
    let mut relay = 0;
    until("a relay has passed on some of the song", || {
        let busy = |number: &u8| mesh.metric(*number, "hopcast_relay_bytes_total{role=\"relay\"}") > 60_000.0;
        relay = [2, 3].into_iter().find(busy).unwrap_or_default();
        relay != 0
    });
    assert!(!playing.is_finished(), "it died too late to mean anything");
    mesh.kill(relay);
    assert_eq!(playing.join().unwrap(), decoded(folder().join("master.m3u8").to_str().unwrap()));
}
