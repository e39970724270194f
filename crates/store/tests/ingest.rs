//! Storing a song on the origin: idempotent, and all or nothing.

mod common;

use std::{fs, path::Path};

use common::{Cluster, ORIGIN, SECRET, count, demo, rooms, setup_origin, song};
use hopcast_protocol::{ManifestKey, MeshSecret, RoomName, SignedManifest};
use hopcast_store::{Error, Fingerprint, Ingested, Prepared, Progress, ingest, ingest_known};
use tempfile::TempDir;

const LIMIT: u64 = 1 << 20;

fn key() -> ManifestKey {
    SECRET.manifest_key()
}

fn rock() -> Vec<RoomName> {
    rooms(&["rock"])
}

async fn origin() -> Cluster {
    let origin = Cluster::start("origin-db", ORIGIN);
    setup_origin(&origin, &[]).await;
    origin
}

/// A copy of the demo song's first rendition that a test may change.
fn copy() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let demo = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../songs/demo/64k");
    for entry in fs::read_dir(demo).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), folder.path().join(entry.file_name())).unwrap();
    }
    folder
}

/// The song's segments, in order.
fn segments(folder: &TempDir) -> Vec<std::path::PathBuf> {
    let mut files: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "ts"));
    files.sort();
    files
}

/// Gives a segment other bytes that are a whole segment all the same.
fn change(file: &Path) {
    let mut bytes = fs::read(file).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    fs::write(file, bytes).unwrap();
}

async fn prepared(folder: &TempDir) -> Prepared {
    Prepared::from_folder(folder.path(), song("demo"), LIMIT).await.unwrap()
}

/// Everything that is stored, so that "nothing is left" can be said of all of it at once.
async fn rows(origin: &Cluster) -> Vec<i64> {
    let mut rows = Vec::new();
    for table in hopcast_store::REPLICATED_TABLES {
        rows.push(count(origin, table).await);
    }
    rows
}

fn revision(ingested: Ingested) -> u64 {
    match ingested {
        Ingested::Stored { revision, .. }
        | Ingested::ManifestOnly { revision }
        | Ingested::Unchanged { revision } => revision,
    }
}

async fn stored_manifest(origin: &Cluster) -> SignedManifest {
    let client = origin.raw(&origin.owner(), None).await;
    let row = client.query_one("SELECT bytes FROM hopcast.manifests WHERE name = 'demo'", &[]).await.unwrap();
    SignedManifest::verify(row.get(0), &key().public()).unwrap()
}

#[tokio::test]
async fn twice_is_once() {
    let origin = origin().await;
    let (mut admin, demo) = (origin.admin().await, demo("demo").await);
    let mut told = Vec::new();
    let first = ingest(&mut admin, &demo, &rock(), &key(), |progress| told.push(progress)).await.unwrap();
    let bytes = demo.bytes();
    assert!(
        matches!(first, Ingested::Stored { segments, bytes: b, .. } if segments == demo.segments() && b == bytes)
    );
    let all = demo.segments();
    assert_eq!(told.last(), Some(&Progress::Storing { segments: all, of: all, bytes }));
    assert!(told.len() > 1, "{told:?}");
    let before = rows(&origin).await;
    let again = ingest(&mut admin, &demo, &rock(), &key(), |_| panic!("stored again")).await.unwrap();
    assert_eq!(again, Ingested::Unchanged { revision: revision(first) });
    assert_eq!(rows(&origin).await, before);

    let listed = admin.songs().await.unwrap();
    assert_eq!(listed.len(), 1);
    assert_eq!((listed[0].name.clone(), listed[0].bytes), (song("demo"), bytes));
    assert_eq!(listed[0].rooms, rock());
    assert_eq!(listed[0].renditions.iter().map(|r| r.segments).sum::<usize>(), all);
    assert!(listed[0].seconds > 1.0);
}

#[tokio::test]
async fn the_manifest_describes_what_is_stored() {
    let origin = origin().await;
    let folder = copy();
    let song = prepared(&folder).await;
    ingest(&mut origin.admin().await, &song, &rock(), &key(), |_| {}).await.unwrap();
    let manifest = stored_manifest(&origin).await.manifest;
    let client = origin.raw(&origin.owner(), None).await;
    let rows = client
        .query("SELECT sequence, duration_us, sha256, bytes FROM hopcast.segments ORDER BY sequence", &[])
        .await
        .unwrap();
    let rendition = &manifest.renditions[0];
    assert_eq!(rows.len(), rendition.segments.len());
    for (at, (row, segment)) in rows.iter().zip(&rendition.segments).enumerate() {
        assert_eq!(row.get::<_, i64>(0) as u64, rendition.first_sequence + at as u64);
        assert_eq!(row.get::<_, i64>(1) as u64, segment.duration_us);
        assert_eq!(row.get::<_, &[u8]>(2), segment.sha256.0);
        assert_eq!(row.get::<_, &[u8]>(3), fs::read(&segments(&folder)[at]).unwrap());
    }
    let storage: i8 = client
        .query_one(
            "SELECT attstorage FROM pg_attribute WHERE attrelid = 'hopcast.segments'::regclass AND attname = 'bytes'",
            &[],
        )
        .await
        .unwrap()
        .get(0);
    assert_eq!(storage as u8, b'e');
}

#[tokio::test]
async fn new_rooms_or_a_new_key_make_a_new_manifest_only() {
    let origin = origin().await;
    let (mut admin, demo) = (origin.admin().await, demo("demo").await);
    let first = revision(ingest(&mut admin, &demo, &rock(), &key(), |_| {}).await.unwrap());
    let before = rows(&origin).await;
    let more = rooms(&["rock", "soul"]);
    let second = ingest(&mut admin, &demo, &more, &key(), |_| panic!("stored again")).await.unwrap();
    assert!(matches!(second, Ingested::ManifestOnly { revision } if revision > first), "{second:?}");
    assert_eq!(stored_manifest(&origin).await.manifest.rooms, more);
    let other = MeshSecret([1; 32]).manifest_key();
    let third = ingest(&mut admin, &demo, &more, &other, |_| panic!("stored again")).await.unwrap();
    assert!(matches!(third, Ingested::ManifestOnly { revision: r } if r > revision(second)), "{third:?}");
    assert_eq!(rows(&origin).await, before);
}

#[tokio::test]
async fn new_content_replaces_the_old_after_a_while() {
    let origin = origin().await;
    let mut admin = origin.admin().await;
    let folder = copy();
    let first = ingest(&mut admin, &prepared(&folder).await, &rock(), &key(), |_| {}).await.unwrap();
    change(&segments(&folder)[0]);
    let song = prepared(&folder).await;
    let second = ingest(&mut admin, &song, &rock(), &key(), |_| {}).await.unwrap();
    assert!(matches!(second, Ingested::Stored { revision: r, .. } if r > revision(first)), "{second:?}");
    // Peers hold the old manifest for a moment: its segments stay.
    assert_eq!(count(&origin, "hopcast.songs").await, 2);
    ingest(&mut admin, &song, &rock(), &key(), |_| {}).await.unwrap();
    assert_eq!(count(&origin, "hopcast.songs").await, 2);
    let client = origin.raw(&origin.owner(), None).await;
    let age = "UPDATE hopcast.songs SET replaced_at = replaced_at - interval '1 hour'";
    client.batch_execute(age).await.unwrap();
    ingest(&mut admin, &song, &rock(), &key(), |_| {}).await.unwrap();
    assert_eq!(count(&origin, "hopcast.songs").await, 1);
    assert_eq!(count(&origin, "hopcast.segments").await, song.segments() as i64);

    // A removed song that comes back is newer than it ever was.
    assert!(admin.remove(&common::song("demo")).await.unwrap());
    assert_eq!(rows(&origin).await, [0; 5]);
    let third = ingest(&mut admin, &song, &rock(), &key(), |_| {}).await.unwrap();
    assert!(revision(third) > revision(second));
}

/// Makes the database refuse, or hang up on, the last segment.
async fn sabotage(origin: &Cluster, how: &str, sequence: usize) {
    let client = origin.raw(&origin.owner(), None).await;
    client
        .batch_execute(&format!(
            "CREATE OR REPLACE FUNCTION public.sabotage() RETURNS trigger LANGUAGE plpgsql AS $$ \
             BEGIN {how}; RETURN new; END $$; \
             CREATE OR REPLACE TRIGGER sabotage BEFORE INSERT ON hopcast.segments FOR EACH ROW \
             WHEN (new.sequence = {sequence}) EXECUTE FUNCTION public.sabotage()"
        ))
        .await
        .unwrap();
}

#[tokio::test]
async fn a_failed_ingest_leaves_nothing() {
    let origin = origin().await;
    let mut admin = origin.admin().await;
    let folder = copy();
    let song = prepared(&folder).await;
    let last = song.segments() - 1;

    sabotage(&origin, "RAISE 'no more room'", last).await;
    let said = ingest(&mut admin, &song, &rock(), &key(), |_| {}).await.unwrap_err().to_string();
    assert!(said.contains("store segments") && said.contains("no more room"), "{said}");
    assert_eq!(rows(&origin).await, [0; 5]);

    // Not even what was committed before the failure.
    let client = origin.raw(&origin.owner(), None).await;
    client.batch_execute("DROP TRIGGER sabotage ON hopcast.segments").await.unwrap();
    change(&segments(&folder)[last]);
    let error = ingest(&mut admin, &song, &rock(), &key(), |_| {}).await.unwrap_err();
    assert!(matches!(error, Error::Source(_)) && error.to_string().contains("changed while"), "{error}");
    assert_eq!(rows(&origin).await, [0; 5]);

    // And the same connection goes on.
    let song = prepared(&folder).await;
    ingest(&mut admin, &song, &rock(), &key(), |_| {}).await.unwrap();
    let whole = rows(&origin).await;

    // A failed replacement leaves the song as it was.
    change(&segments(&folder)[0]);
    let before = stored_manifest(&origin).await;
    sabotage(&origin, "RAISE 'no more room'", last).await;
    ingest(&mut admin, &prepared(&folder).await, &rock(), &key(), |_| {}).await.unwrap_err();
    assert_eq!(rows(&origin).await, whole);
    assert_eq!(stored_manifest(&origin).await, before);
}

#[tokio::test]
async fn an_ingest_that_dies_is_swept() {
    let origin = origin().await;
    let folder = copy();
    let song = prepared(&folder).await;
    let last = song.segments() - 1;
    sabotage(&origin, "PERFORM pg_terminate_backend(pg_backend_pid())", last).await;
    let mut admin = origin.admin().await;
    ingest(&mut admin, &song, &rock(), &key(), |_| {}).await.unwrap_err();
    assert!(admin.is_closed());
    // Nobody sees what it left.
    assert_eq!(count(&origin, "hopcast.manifests").await, 0);
    assert_eq!(origin.admin().await.songs().await.unwrap(), []);
    assert_eq!(count(&origin, "hopcast.songs").await, 1);
    assert_eq!(setup_origin(&origin, &[]).await.swept, 1);
    assert_eq!(rows(&origin).await, [0; 5]);
}

#[tokio::test]
async fn an_ingest_that_is_given_up_is_swept_by_the_next() {
    let origin = origin().await;
    let song = demo("demo").await;
    let mut admin = origin.admin().await;
    let (rock, key) = (rock(), key());
    let (tell, told) = tokio::sync::oneshot::channel();
    let mut tell = Some(tell);
    {
        let storing = ingest(&mut admin, &song, &rock, &key, |_| {
            if let Some(tell) = tell.take() {
                tell.send(()).unwrap();
            }
        });
        tokio::select! {
            biased;
            told = told => told.unwrap(),
            done = storing => panic!("{done:?} before anything was told"),
        }
    }
    // The same session, which held the lock, and another one.
    let mut other = origin.admin().await;
    let first = ingest(&mut admin, &song, &rock, &key, |_| {}).await.unwrap();
    assert!(matches!(first, Ingested::Stored { .. }), "{first:?}");
    let second = ingest(&mut other, &song, &rock, &key, |_| {}).await.unwrap();
    assert!(matches!(second, Ingested::Unchanged { .. }), "{second:?}");
    assert_eq!(count(&origin, "hopcast.songs").await, 1);
}

#[tokio::test]
async fn two_ingests_at_once_take_turns() {
    let origin = origin().await;
    let (mut one, mut two) = (origin.admin().await, origin.admin().await);
    let (a, b) = (demo("a").await, demo("a").await);
    let (rock, key) = (rock(), key());
    let (first, second) =
        tokio::join!(ingest(&mut one, &a, &rock, &key, |_| {}), ingest(&mut two, &b, &rock, &key, |_| {}));
    let stored = [first.unwrap(), second.unwrap()];
    assert_eq!(stored.iter().filter(|done| matches!(done, Ingested::Stored { .. })).count(), 1, "{stored:?}");
    assert_eq!(
        stored.iter().filter(|done| matches!(done, Ingested::Unchanged { .. })).count(),
        1,
        "{stored:?}"
    );
}

#[tokio::test]
async fn what_no_peer_could_serve_is_refused_before_anything_is_stored() {
    let origin = origin().await;
    let mut admin = origin.admin().await;
    let error = ingest(&mut admin, &demo("demo").await, &[], &key(), |_| {}).await.unwrap_err();
    assert!(matches!(error, Error::NoRooms { .. }), "{error}");
    let folder = tempfile::tempdir().unwrap();
    // Many tiny segments: the manifest is longer than any of them.
    let mut playlist = String::from("#EXTM3U\n#EXT-X-TARGETDURATION:1\n");
    let mut packet = vec![0; 188];
    packet[0] = 0x47;
    fs::write(folder.path().join("s.ts"), &packet).unwrap();
    for _ in 0..50 {
        playlist.push_str("#EXTINF:1,\ns.ts\n");
    }
    playlist.push_str("#EXT-X-ENDLIST\n");
    fs::write(folder.path().join("index.m3u8"), playlist).unwrap();
    let song = Prepared::from_folder(folder.path(), common::song("demo"), 4096).await.unwrap();
    let error = ingest(&mut admin, &song, &rock(), &key(), |_| {}).await.unwrap_err();
    assert!(matches!(error, Error::ManifestTooLong { limit: 4096, .. }), "{error}");
    assert_eq!(rows(&origin).await, [0; 5]);
}

/// A second of silence; `last` is its last byte (Microsoft's RIFF WAVE: 8000 samples of 16 bits).
fn silence(file: &Path, last: u8) {
    let mut bytes =
        b"RIFF\xa4\x3e\0\0WAVEfmt \x10\0\0\0\x01\0\x01\0\x40\x1f\0\0\x80\x3e\0\0\x02\0\x10\0data\x80\x3e\0\0"
            .to_vec();
    bytes.resize(bytes.len() + 16_000, 0);
    *bytes.last_mut().unwrap() = last;
    fs::write(file, bytes).unwrap();
}

#[tokio::test]
async fn an_audio_file_that_did_not_change_is_not_encoded_again() {
    let origin = origin().await;
    let (mut admin, folder) = (origin.admin().await, tempfile::tempdir().unwrap());
    let file = folder.path().join("song.wav");
    silence(&file, 0);
    let of = async || Fingerprint::of(&file).await.unwrap().expect("an audio file");
    assert_eq!(Fingerprint::of(folder.path()).await.unwrap(), None, "a folder is not encoded");
    let name = song("demo");
    let fingerprint = of().await;
    assert_eq!(
        ingest_known(&mut admin, &name, fingerprint, &rock(), &key(), LIMIT).await.unwrap(),
        None,
        "nothing is stored"
    );
    let prepared = Prepared::from_path(&file, name.clone(), LIMIT, |_| {}).await.unwrap();
    let first = ingest(&mut admin, &prepared, &rock(), &key(), |_| {}).await.unwrap();
    let before = rows(&origin).await;
    let unchanged = Some(Ingested::Unchanged { revision: revision(first) });
    let known = ingest_known(&mut admin, &name, fingerprint, &rock(), &key(), LIMIT).await.unwrap();
    assert_eq!(known, unchanged);
    assert_eq!(of().await, fingerprint, "the file's time does not count");

    // Other rooms: the manifest is written anew, from what is stored.
    let both = rooms(&["rock", "jazz"]);
    let known = ingest_known(&mut admin, &name, fingerprint, &both, &key(), LIMIT).await.unwrap();
    assert!(matches!(known, Some(Ingested::ManifestOnly { .. })), "{known:?}");
    let manifest = stored_manifest(&origin).await.manifest;
    assert_eq!((manifest.rooms, manifest.renditions.len()), (both.clone(), prepared.renditions().len()));
    assert_eq!(rows(&origin).await, before);

    // What has to be encoded again: another file, another limit, another key.
    let other = MeshSecret([8; 32]).manifest_key();
    assert_eq!(ingest_known(&mut admin, &name, fingerprint, &both, &key(), 10).await.unwrap(), None);
    assert_eq!(ingest_known(&mut admin, &name, fingerprint, &both, &other, LIMIT).await.unwrap(), None);
    silence(&file, 1);
    let changed = of().await;
    assert_ne!(changed, fingerprint);
    assert_eq!(ingest_known(&mut admin, &name, changed, &both, &key(), LIMIT).await.unwrap(), None);

    // A song that an older hopcast stored is remembered the next time that it is encoded.
    let client = origin.raw(&origin.owner(), None).await;
    client.batch_execute("DELETE FROM hopcast.sources").await.unwrap();
    assert_eq!(ingest_known(&mut admin, &name, fingerprint, &both, &key(), LIMIT).await.unwrap(), None);
    let again = ingest(&mut admin, &prepared, &both, &key(), |_| {}).await.unwrap();
    assert!(matches!(again, Ingested::Unchanged { .. }), "{again:?}");
    let known = ingest_known(&mut admin, &name, fingerprint, &both, &key(), LIMIT).await.unwrap();
    assert_eq!(known, Some(again));
}
