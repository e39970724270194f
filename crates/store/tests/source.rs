//! What is taken as a song, what is refused, and with which words.

use std::{fs, path::Path, process::Command};

use hopcast_protocol::{Rendition, Sha256, SongName};
use hopcast_store::{Prepared, SourceError};
use tempfile::TempDir;

const LIMIT: u64 = 1 << 20;

async fn read(path: &Path) -> Result<Prepared, SourceError> {
    Prepared::from_folder(path, SongName::new("demo").unwrap(), LIMIT).await
}

async fn renditions(path: &Path) -> Vec<Rendition> {
    read(path).await.unwrap().renditions().cloned().collect()
}

/// The sentence that a folder is refused with.
async fn refusal(folder: &Scratch) -> String {
    match read(folder.0.path()).await {
        Ok(song) => panic!("taken: {song:?}"),
        Err(error) => error.to_string(),
    }
}

/// A folder to write into.
struct Scratch(TempDir);

impl Scratch {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    /// With a playlist, and whole segments `0.ts` and `1.ts`.
    fn with(playlist: &str) -> Self {
        let scratch = Self::new();
        scratch.file("index.m3u8", playlist);
        scratch.file("0.ts", ts(3));
        scratch.file("1.ts", ts(4));
        scratch
    }

    fn file(&self, name: &str, bytes: impl AsRef<[u8]>) {
        let path = self.0.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
}

/// Packets without a programme.
fn ts(packets: u8) -> Vec<u8> {
    let mut bytes = vec![0; 188 * usize::from(packets)];
    for packet in bytes.chunks_mut(188) {
        packet[0] = 0x47;
        packet[187] = packets;
    }
    bytes
}

fn playlist(segments: &str) -> String {
    format!("#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:4\n{segments}#EXT-X-ENDLIST\n")
}

const TWO: &str = "#EXTINF:4,\n0.ts\n#EXTINF:3.5,\n1.ts\n";

#[tokio::test]
async fn the_demo_song() {
    let demo = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../songs/demo");
    let found = renditions(&demo).await;
    assert_eq!(found.iter().map(|r| r.name.as_str()).collect::<Vec<_>>(), ["64k", "128k"]);
    for rendition in &found {
        assert_eq!((rendition.codecs.as_str(), rendition.extension.as_str()), ("mp4a.40.2", "ts"));
        let folder = demo.join(rendition.name.as_str());
        let first = fs::read(folder.join("0.ts")).unwrap();
        assert_eq!(rendition.segments[0].sha256, Sha256::of(&first));
        // One media playlist of it, as a song of its own: the same segments, and the codec told from the bytes.
        let alone = renditions(&folder).await;
        assert_eq!(alone[0].segments, rendition.segments);
        assert_eq!(alone[0].codecs, "mp4a.40.2");
        assert!(alone[0].bandwidth.abs_diff(rendition.bandwidth) < rendition.bandwidth / 10, "{alone:?}");
        assert_eq!(renditions(&folder.join("index.m3u8")).await, alone);
    }
}

#[tokio::test]
async fn a_media_playlist_is_read_to_the_letter() {
    let text = "\u{feff}#EXTM3U\r\n# a remark\r\n#EXT-X-TARGETDURATION:4\r\n#EXT-X-MEDIA-SEQUENCE:7\r\n\r\n\
                #EXTINF:3.994667,Artist, Song\r\n0.ts\r\n#EXT-X-DISCONTINUITY\r\n#EXTINF:4,\r\nsub%20dir/1.ts\r\n\
                #EXT-X-ENDLIST\r\n";
    let folder = Scratch::with(text);
    folder.file("sub dir/1.ts", ts(5));
    let song = read(folder.0.path()).await.unwrap();
    let rendition = song.renditions().next().unwrap();
    assert_eq!((rendition.first_sequence, rendition.target_duration), (7, 4));
    let parts: Vec<_> =
        rendition.segments.iter().map(|s| (s.duration_us, s.discontinuity, s.length)).collect();
    assert_eq!(parts, [(3_994_667, false, 188 * 3), (4_000_000, true, 188 * 5)]);
    // Nothing in these bytes tells the codec: the default is declared, and said.
    assert_eq!(rendition.codecs, "mp4a.40.2");
    assert!(song.warnings().iter().any(|warning| warning.contains("do not tell their codec")), "{song:?}");
}

#[tokio::test]
async fn a_target_duration_that_is_too_short_is_put_right() {
    let folder = Scratch::with(&playlist("#EXTINF:6.6,\n0.ts\n"));
    assert_eq!(renditions(folder.0.path()).await[0].target_duration, 7);
}

#[tokio::test]
async fn a_master_names_its_renditions() {
    let folder = Scratch::new();
    folder.file(
        "list.m3u8",
        "#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=64000,CODECS=\"mp4a.40.5\"\nlow/index.m3u8\n\
         #EXT-X-STREAM-INF:BANDWIDTH=128000\nhigh.m3u8\n#EXT-X-STREAM-INF:BANDWIDTH=192000\nindex.m3u8\n",
    );
    for playlist_name in ["low/index.m3u8", "high.m3u8", "index.m3u8"] {
        folder.file(playlist_name, playlist("#EXTINF:4,\n0.ts\n"));
    }
    folder.file("0.ts", ts(3));
    folder.file("low/0.ts", ts(2));
    let found = renditions(folder.0.path()).await;
    let told: Vec<_> = found.iter().map(|r| (r.name.as_str(), r.bandwidth, r.codecs.as_str())).collect();
    assert_eq!(
        told,
        [("low", 64_000, "mp4a.40.5"), ("high", 128_000, "mp4a.40.2"), ("192k", 192_000, "mp4a.40.2")]
    );
}

#[tokio::test]
async fn what_a_song_cannot_have_is_refused_with_its_line() {
    for (segments, line, words) in [
        ("#EXT-X-KEY:METHOD=AES-128,URI=\"k\"\n#EXTINF:4,\n0.ts\n", 4, "encrypted"),
        ("#EXTINF:4,\n#EXT-X-BYTERANGE:188@0\n0.ts\n", 5, "BYTERANGE"),
        ("#EXTINF:4,\nhttp://elsewhere/0.ts\n", 5, "absolute"),
        ("#EXTINF:4,\nfile:0.ts\n", 5, "absolute"),
        ("#EXTINF:4,\n/etc/hostname\n", 5, "absolute"),
        ("#EXTINF:4,\n//elsewhere/0.ts\n", 5, "absolute"),
        ("#EXTINF:4,\n../0.ts\n", 5, "out of the folder"),
        ("#EXTINF:4,\na/%2e%2e/%2E./0.ts\n", 5, "out of the folder"),
        ("#EXTINF:4,\n..\\0.ts\n", 5, "out of the folder"),
        ("#EXTINF:4,\n0.ts\n#EXTINF:4,\nmissing.ts\n", 7, "no such file"),
        ("#EXTINF:4,\n.\n", 5, "is no file"),
        ("#EXTINF:four,\n0.ts\n", 4, "`four` is not a duration"),
        ("#EXTINF:0,\n0.ts\n", 4, "`0` is not a duration"),
        ("#EXTINF:-1,\n0.ts\n", 4, "`-1` is not a duration"),
        ("0.ts\n", 4, "without #EXTINF"),
        ("#EXTINF:4,\n#EXTINF:4,\n0.ts\n", 4, "without a URI"),
        ("#EXTINF:4,\n0.ts\n#EXTINF:4,\n", 6, "cut short"),
        ("#EXT-X-MAP:URI=\"0.ts\",BYTERANGE=\"9@0\"\n#EXTINF:4,\n0.ts\n", 4, "BYTERANGE"),
        ("#EXT-X-MAP:URI=\"../i.mp4\"\n#EXTINF:4,\n0.ts\n", 4, "out of the folder"),
        ("#EXT-X-I-FRAMES-ONLY\n#EXTINF:4,\n0.ts\n", 4, "I-frames"),
        ("#EXTINF:4,\n#EXT-X-GAP\n0.ts\n", 5, "missing"),
        ("", 4, "no segments"),
    ] {
        let said = refusal(&Scratch::with(&playlist(segments))).await;
        assert!(
            said.contains(&format!("index.m3u8:{line}: ")) && said.contains(words),
            "{segments:?}: {said}"
        );
    }
}

#[tokio::test]
async fn a_broken_playlist_is_refused() {
    for (text, line, words) in [
        ("", 1, "empty"),
        ("<html>\n", 1, "must be #EXTM3U"),
        ("#EXTM3U\n#EXT-X-TARGETDURATION:4\n#EXTINF:4,\n0.ts\n", 4, "ENDLIST"),
        ("#EXTM3U\n#EXTINF:4,\n0.ts\n#EXT-X-ENDLIST\n", 4, "TARGETDURATION"),
        ("#EXTM3U\n#EXT-X-TARGETDURATION:soon\n#EXTINF:4,\n0.ts\n#EXT-X-ENDLIST\n", 2, "`soon`"),
        ("#EXTM3U\n#EXT-X-MEDIA-SEQUENCE:x\n", 2, "`x`"),
        ("#EXTM3U\n#EXT-X-STREAM-INF:CODECS=\"x\"\n0.ts\n", 2, "BANDWIDTH"),
        ("#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\n", 2, "cut short"),
        ("#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\nindex.m3u8\n", 3, "master playlist itself"),
        ("#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\nmissing.m3u8\n", 3, "no such file"),
        (
            "#EXTM3U\n#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID=\"a\",NAME=\"n\",URI=\"a.m3u8\"\n\
             #EXT-X-STREAM-INF:BANDWIDTH=1,AUDIO=\"a\"\nv.m3u8\n",
            2,
            "alternative",
        ),
        ("#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\na.m3u8\n#EXTINF:4,\n0.ts\n", 5, "one file"),
    ] {
        let said = refusal(&Scratch::with(text)).await;
        assert!(
            said.contains("index.m3u8:") && said.contains(words) && said.contains(&format!(":{line}: ")),
            "{text:?}: {said}"
        );
    }
    let folder = Scratch::with("x");
    folder.file("index.m3u8", b"#EXTM3U\n#EXTINF:4,\xff\n");
    assert!(refusal(&folder).await.contains("index.m3u8:2: not UTF-8"));
}

#[tokio::test]
async fn folders_that_are_no_song_are_refused() {
    let folder = Scratch::new();
    assert!(refusal(&folder).await.contains("holds no .m3u8 playlist"));
    folder.file("a.m3u8", playlist(TWO));
    folder.file("b.m3u8", playlist(TWO));
    let said = refusal(&folder).await;
    assert!(said.contains("a.m3u8, b.m3u8") && said.contains("master.m3u8"), "{said}");
    let missing = read(Path::new("/nonexistent/song")).await.unwrap_err();
    assert!(missing.to_string().contains("/nonexistent/song"), "{missing}");
}

#[tokio::test]
async fn broken_segments_are_refused() {
    let cut = &ts(4)[..188 * 3 + 7];
    let mut damaged = ts(4);
    damaged[188] = 0;
    let moof = b"\0\0\0\x08moof".as_slice();
    for (bytes, words) in [
        (&b""[..], "empty"),
        (cut, "truncated MPEG-TS: the last packet has 7 of 188 bytes"),
        (&damaged, "no sync byte at offset 188"),
        (b"\xff\xfb\x90\x00mp3", "MP3"),
        (b"\xff\xf1\x50\x80\x10\x1f\xfc", "truncated AAC"),
        (moof, "no `mdat` box"),
        (b"\0\0\x01\0moof", "truncated MP4: 8 of 256 bytes of box `moof`"),
        (b"\0\0\0\x08moof\0\0\0\x08mdat", "of another format than the segments before it"),
        (b"WEBVTT", "subtitles"),
        (b"hello", "neither"),
    ] {
        let folder = Scratch::with(&playlist(TWO));
        folder.file("1.ts", bytes);
        let said = refusal(&folder).await;
        assert!(said.contains("index.m3u8:7: 1.ts: ") && said.contains(words), "{said}");
    }
    let folder = Scratch::with(&playlist(TWO));
    folder.file("1.ts", vec![0x47; LIMIT as usize + 1]);
    let said = refusal(&folder).await;
    assert!(said.contains(":7: 1.ts: longer than 1048576 bytes (peers.max_segment)"), "{said}");
    folder.file("0.ts", b"\0\0\0\x08moof\0\0\0\x08mdat");
    let said = refusal(&folder).await;
    assert!(said.contains(":5: 0.ts: ") && said.contains("EXT-X-MAP"), "{said}");
}

#[tokio::test]
async fn a_link_out_of_the_folder_is_refused() {
    let elsewhere = Scratch::with("x");
    let folder = Scratch::with(&playlist(TWO));
    fs::remove_file(folder.0.path().join("1.ts")).unwrap();
    std::os::unix::fs::symlink(elsewhere.0.path().join("1.ts"), folder.0.path().join("1.ts")).unwrap();
    let said = refusal(&folder).await;
    assert!(said.contains(":7: 1.ts: leads out of "), "{said}");
}

/// Runs the system's ffmpeg in a folder.
fn ffmpeg(folder: &Scratch, arguments: &str) {
    let mut all = vec!["-v", "error", "-nostdin", "-f", "lavfi", "-i", "sine=frequency=440:duration=9"];
    all.extend(arguments.split_whitespace());
    let status =
        Command::new("ffmpeg").args(all).current_dir(folder.0.path()).status().expect("ffmpeg is installed");
    assert!(status.success(), "{arguments}");
}

#[tokio::test]
async fn every_format_that_players_take_is_taken() {
    let folder = Scratch::new();
    let hls = "-f hls -hls_time 3 -hls_playlist_type vod";
    ffmpeg(&folder, &format!("-c:a aac {hls} -hls_segment_type fmp4 index.m3u8"));
    let found = &renditions(folder.0.path()).await[0];
    assert_eq!((found.extension.as_str(), found.codecs.as_str()), ("m4s", "mp4a.40.2"));
    let init = fs::read(folder.0.path().join("init.mp4")).unwrap();
    assert_eq!(found.init.unwrap().sha256, Sha256::of(&init));
    assert!(found.segments.len() >= 3);
    folder.file("init.mp4", &init[..init.len() - 1]);
    let said = refusal(&folder).await;
    assert!(said.contains("init.mp4: truncated MP4"), "{said}");

    // ADTS, with the timestamp that ffmpeg writes and without any.
    let folder = Scratch::new();
    ffmpeg(&folder, "-c:a aac -f segment -segment_time 3 -segment_format adts %d.aac");
    folder.file("index.m3u8", playlist("#EXTINF:3,\n0.aac\n#EXTINF:3,\n1.aac\n"));
    let song = read(folder.0.path()).await.unwrap();
    let found = song.renditions().next().unwrap();
    assert_eq!((found.extension.as_str(), found.codecs.as_str()), ("aac", "mp4a.40.2"));
    assert!(song.warnings()[0].contains("2 AAC segments have no ID3 timestamp"), "{:?}", song.warnings());
    let mut tagged =
        b"ID3\x04\0\0\0\0\0\x3fPRIV\0\0\0\x35\0\0com.apple.streaming.transportStreamTimestamp\0".to_vec();
    tagged.extend_from_slice(&[0; 8]);
    for name in ["0.aac", "1.aac"] {
        let mut bytes = tagged.clone();
        bytes.extend(fs::read(folder.0.path().join(name)).unwrap());
        folder.file(name, bytes);
    }
    let song = read(folder.0.path()).await.unwrap();
    assert_eq!(song.warnings(), [] as [String; 0]);

    // MP3 in segments of its own.
    let folder = Scratch::new();
    ffmpeg(&folder, "-c:a libmp3lame -f segment -segment_time 3 -segment_format mp3 %d.mp3");
    folder.file("index.m3u8", playlist("#EXTINF:3,\n0.mp3\n"));
    assert!(refusal(&folder).await.contains(":5: 0.mp3: MP3 segments"));
}

#[tokio::test]
async fn codecs_of_pictures_are_told_too() {
    for (kind, extension) in [("mpegts", "ts"), ("fmp4", "m4s")] {
        let folder = Scratch::new();
        ffmpeg(
            &folder,
            &format!(
                "-f lavfi -i testsrc=size=64x64:rate=5:duration=9 -c:a aac -c:v libx264 -profile:v main -pix_fmt yuv420p -f hls \
                 -hls_time 3 -hls_playlist_type vod -hls_segment_type {kind} index.m3u8"
            ),
        );
        let found = &renditions(folder.0.path()).await[0];
        assert_eq!(found.extension, extension);
        let mut codecs: Vec<&str> = found.codecs.split(',').collect();
        codecs.sort_unstable();
        assert!(codecs[0].starts_with("avc1.4d40") && codecs[1] == "mp4a.40.2", "{codecs:?}");
    }
}

/// An audio file of nine seconds, made by the system's ffmpeg.
fn audio(extension: &str) -> (Scratch, std::path::PathBuf) {
    let folder = Scratch::new();
    let name = format!("song one.{extension}");
    let made = folder.0.path().join(&name);
    ffmpeg(&folder, &format!("-ac 2 -y made.{extension}"));
    fs::rename(folder.0.path().join(format!("made.{extension}")), &made).unwrap();
    (folder, made)
}

async fn encode(path: &Path) -> Result<Prepared, SourceError> {
    Prepared::from_path(path, SongName::new("demo").unwrap(), LIMIT, |_| {}).await
}

#[tokio::test]
async fn an_audio_file_is_encoded_to_three_renditions() {
    let (_folder, path) = audio("mp3");
    let mut told = Vec::new();
    let song =
        Prepared::from_audio(&path, SongName::new("demo").unwrap(), LIMIT, |progress| told.push(progress))
            .await
            .unwrap();
    assert!(
        matches!(told.last(), Some(hopcast_store::Progress::Encoding { seconds }) if *seconds > 8.5),
        "{told:?}"
    );
    let found: Vec<Rendition> = song.renditions().cloned().collect();
    assert_eq!(found.iter().map(|r| r.name.as_str()).collect::<Vec<_>>(), ["64k", "128k", "192k"]);
    for rendition in &found {
        assert_eq!((rendition.codecs.as_str(), rendition.extension.as_str()), ("mp4a.40.2", "ts"));
        assert_eq!(rendition.segments.len(), 3);
        let seconds = rendition.segments.iter().map(|s| s.duration_us).sum::<u64>() as f64 / 1e6;
        assert!((8.9..9.2).contains(&seconds), "{seconds}");
    }
    assert!(found[0].bandwidth < found[2].bandwidth, "{found:?}");
    // The same file gives the same bytes: ingesting it again changes nothing.
    let again: Vec<Rendition> = encode(&path).await.unwrap().renditions().cloned().collect();
    assert_eq!(again, found);
}

#[tokio::test]
async fn a_sound_of_less_than_half_a_second_is_a_song_too() {
    let folder = Scratch::new();
    ffmpeg(&folder, "-t 0.1 -y click.wav");
    let song = encode(&folder.0.path().join("click.wav")).await.unwrap();
    for rendition in song.renditions() {
        assert_eq!((rendition.segments.len(), rendition.target_duration), (1, 1), "{rendition:?}");
    }
}

#[tokio::test]
async fn what_is_not_audio_is_refused() {
    let folder = Scratch::new();
    ffmpeg(&folder, "-f lavfi -i testsrc=size=64x64:rate=5:duration=2 -map 1:v silent.mp4");
    folder.file("text.mp3", "these are words, and no sound at all\n".repeat(50));
    folder.file("empty.mp3", "");
    folder.file(
        "noise.mp3",
        (0..60_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect::<Vec<_>>(),
    );
    folder.file("list.mp3", playlist("#EXTINF:4,\nhttp://127.0.0.1:1/a.ts\n"));
    for (name, words) in [
        ("text.mp3", "is not audio"),
        ("empty.mp3", "is not audio: the file is empty"),
        ("noise.mp3", "is not audio"),
        ("silent.mp4", "is not audio: there is no sound in it"),
        ("list.mp3", "is not audio: it is a list"),
        ("missing.mp3", "cannot read"),
    ] {
        let path = folder.0.path().join(name);
        let said = encode(&path).await.err().unwrap_or_else(|| panic!("taken: {name}")).to_string();
        assert!(said.contains(&path.display().to_string()) && said.contains(words), "{name}: {said}");
    }
}

#[tokio::test]
async fn an_audio_file_that_is_cut_short_is_refused() {
    for extension in ["mp3", "flac", "m4a", "wav"] {
        let (_folder, path) = audio(extension);
        encode(&path).await.unwrap();
        let bytes = fs::read(&path).unwrap();
        // An odd length, so that a sample is cut too.
        fs::write(&path, &bytes[..(bytes.len() * 6 / 10) | 1]).unwrap();
        let said = encode(&path).await.err().unwrap_or_else(|| panic!("taken: {extension}")).to_string();
        assert!(said.contains("is damaged or cut short"), "{extension}: {said}");
    }
}
