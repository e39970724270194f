//! Making, replacing and moving images, on a real engine. The names are the tests' own. Needs the command `docker`.

mod containers;

use std::{
    fs::{self, File},
    io::Write as _,
    path::Path,
    process::{Command, Stdio},
    sync::Mutex,
};

use containers::{Container, Name, docker, inspect, run, static_programs};
use hopcast_deploy::{
    Error, Progress, Quiet, Step,
    docker::{
        engine::Engine,
        image::{self, Images, Origin},
    },
    programs::Programs,
};
use hopcast_topology::Plan;

/// Names of a test's own, and a plan with them.
struct Fixture {
    peer: Name,
    signalling: Name,
    postgres: Name,
}

impl Fixture {
    fn new() -> Self {
        Self { peer: Name::new("peer"), signalling: Name::new("signalling"), postgres: Name::new("postgres") }
    }

    fn plan(&self) -> Plan {
        containers::plan(&self.peer.0, &self.signalling.0, &self.postgres.0)
    }

    /// A stand-in for the databases' image, so that none is made: what has the plan's name is taken, whoever made it.
    fn with_postgres(self) -> Self {
        let mut import = Command::new("docker");
        import
            .args(["import", "-c", "ENV PG_MAJOR=17", "-", &self.postgres.0])
            .stdin(Stdio::piped())
            .stdout(Stdio::null());
        let mut import = import.spawn().unwrap();
        let mut tar = tar::Builder::new(Vec::new());
        let passwd = b"root:x:0:0::/:/bin/sh\npostgres:x:70:71::/var/lib/postgresql:/bin/sh\n";
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o644);
        header.set_size(passwd.len() as u64);
        tar.append_data(&mut header, "etc/passwd", &passwd[..]).unwrap();
        import.stdin.take().unwrap().write_all(&tar.into_inner().unwrap()).unwrap();
        assert!(import.wait().unwrap().success());
        self
    }
}

async fn ensure(plan: &Plan, programs: Programs) -> Result<Images, Error> {
    let engine = Engine::connect().await?;
    image::ensure_from(&engine, plan, Ok(programs), &Quiet).await
}

/// The built programs, the peer with a text at its end that no loader reads: images of its own.
fn programs(folder: &Path, text: &str) -> Programs {
    let built = static_programs();
    for program in [&built.hopcast, &built.peer, &built.signalling] {
        fs::copy(program, folder.join(program.file_name().unwrap())).unwrap();
    }
    let copied = Programs::in_dir(folder).unwrap();
    File::options().append(true).open(&copied.peer).unwrap().write_all(text.as_bytes()).unwrap();
    copied
}

#[tokio::test]
async fn an_image_is_made_once_and_again_when_its_program_has_changed() {
    let fixture = Fixture::new().with_postgres();
    let plan = fixture.plan();
    let (folder, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let text = &fixture.peer.0;
    let old = programs(folder.path(), text);
    let first = ensure(&plan, old.clone()).await.unwrap();
    assert_eq!(first.all().map(|image| image.origin), [Origin::Built, Origin::Built, Origin::Present]);
    assert_eq!(first.database_major, Some(17));
    assert_eq!(inspect(&fixture.peer.0, ".Id"), first.peer.id.as_str());
    assert!(first.peer.bytes > 0 && first.peer.content.len() == 64);

    let engine = Engine::connect().await.unwrap();
    let before = engine.requests();
    let second = image::ensure_from(&engine, &plan, Ok(old), &Quiet).await.unwrap();
    assert!(second.all().iter().all(|image| image.origin == Origin::Present));
    assert_eq!(second.all().map(|image| &image.id), first.all().map(|image| &image.id));
    assert_eq!(
        engine.requests() - before,
        2,
        "one list of all, and one look at the database image, whose version only that tells"
    );

    let third = ensure(&plan, programs(other.path(), &format!("{text} new"))).await.unwrap();
    assert_eq!(third.all().map(|image| image.origin), [Origin::Built, Origin::Present, Origin::Present]);
    assert_ne!(third.peer.id, first.peer.id);
    assert!(!run(&["inspect", &first.peer.id]).status.success(), "the replaced image is gone");
}

#[tokio::test]
async fn a_replaced_image_stays_as_long_as_somebody_has_it() {
    let fixture = Fixture::new().with_postgres();
    let plan = fixture.plan();
    let folders = [(); 3].map(|()| tempfile::tempdir().unwrap());
    let version = |at: usize| programs(folders[at].path(), &format!("{} {at}", fixture.peer.0));
    let first = ensure(&plan, version(0)).await.unwrap();
    let peer = Container::start(&["-e", "PEER_NAME=peer-1"], &first.peer.id, &[]);
    let second = ensure(&plan, version(1)).await.unwrap();
    assert!(peer.running());
    assert_eq!(inspect(&peer.0, ".Image"), first.peer.id.as_str());
    drop(peer);
    docker(&["rmi", &first.peer.id]);
    // Another name is somebody's, too.
    let kept = Name::new("kept");
    docker(&["tag", &second.peer.id, &kept.0]);
    ensure(&plan, version(2)).await.unwrap();
    assert_eq!(inspect(&kept.0, ".Id"), second.peer.id.as_str());
}

#[tokio::test]
async fn an_image_of_somebody_else_is_left_alone() {
    let mut fixture = Fixture::new().with_postgres();
    docker(&["tag", &fixture.postgres.0, &fixture.peer.0]);
    let plan = fixture.plan();
    let before = inspect(&fixture.peer.0, ".Id");
    let error = ensure(&plan, static_programs()).await.unwrap_err().to_string();
    assert!(error.contains(&fixture.peer.0) && error.contains("not hopcast's"), "{error}");
    assert_eq!(inspect(&fixture.peer.0, ".Id"), before);
    // One that says what it is, but not what it was made from (Nix's), is taken as it is.
    fixture.peer = Name::new("peer");
    let other = Container(containers::unique("container"));
    docker(&["create", "--name", &other.0, &fixture.postgres.0, "x"]);
    docker(&["commit", "-c", "LABEL io.hopcast.image=peer", &other.0, &fixture.peer.0]);
    let images = ensure(&fixture.plan(), static_programs()).await.unwrap();
    assert_eq!(images.peer.origin, Origin::Present);
    assert_eq!(images.peer.content, images.peer.id, "nothing else says what it holds");
}

#[tokio::test]
async fn programs_that_need_libraries_are_refused_with_what_to_do() {
    let fixture = Fixture::new().with_postgres();
    let plan = fixture.plan();
    let mut dynamic = static_programs();
    dynamic.peer = "/bin/sh".into();
    let error = ensure(&plan, dynamic.clone()).await.unwrap_err().to_string();
    assert!(error.contains("/bin/sh is dynamically linked") && error.contains("build_release"), "{error}");
    // With an image at hand it is only a remark.
    let first = ensure(&plan, static_programs()).await.unwrap();
    let engine = Engine::connect().await.unwrap();
    let notes = Notes::default();
    let second = image::ensure_from(&engine, &plan, Ok(dynamic), &notes).await.unwrap();
    assert_eq!(second.peer.id, first.peer.id);
    let notes = notes.0.into_inner().unwrap();
    assert!(notes.iter().any(|note| note.contains("stays as it is")), "{notes:?}");
}

#[tokio::test]
async fn images_move_to_another_machine() {
    let fixture = Fixture::new().with_postgres();
    let plan = fixture.plan();
    let engine = Engine::connect().await.unwrap();
    let images = ensure(&plan, static_programs()).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let ours = folder.path().join("images.tar");
    let bytes = image::save(&engine, &images, &ours).await.unwrap();
    assert_eq!(fs::metadata(&ours).unwrap().len(), bytes);
    let theirs = folder.path().join("docker.tar");
    docker(&[
        "save",
        "-o",
        theirs.to_str().unwrap(),
        &fixture.peer.0,
        &fixture.signalling.0,
        &fixture.postgres.0,
    ]);

    let gone = || {
        for name in [&fixture.peer, &fixture.signalling, &fixture.postgres] {
            docker(&["rmi", &name.0]);
        }
        assert!(!run(&["inspect", &fixture.peer.0]).status.success());
    };
    let same = || {
        assert_eq!(inspect(&fixture.peer.0, ".Id"), images.peer.id.as_str());
        assert_eq!(inspect(&fixture.signalling.0, ".Id"), images.signalling.id.as_str());
        assert_eq!(inspect(&fixture.postgres.0, ".Id"), images.postgres.id.as_str());
        let peer =
            Container::start(&["-e", "PEER_NAME=peer-1", "-p", "127.0.0.1::8080"], &fixture.peer.0, &[]);
        assert_eq!(peer.get(8080, "/health").trim(), "peer-1: ok");
    };
    for file in [&ours, &theirs] {
        gone();
        let mut loaded = image::load(&engine, file).await.unwrap();
        loaded.sort();
        assert_eq!(loaded, [&fixture.peer.0, &fixture.postgres.0, &fixture.signalling.0].map(Clone::clone));
        same();
        gone();
        docker(&["load", "-i", file.to_str().unwrap()]);
        same();
    }
    // On a machine without the programs, what was loaded is taken.
    let without = Err(Error::Missing("no programs".into()));
    let there = image::ensure_from(&engine, &plan, without, &Quiet).await.unwrap();
    assert_eq!(there.peer.id, images.peer.id);
}

#[tokio::test]
async fn a_file_without_images_is_refused() {
    let engine = Engine::connect().await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("no.tar");
    fs::write(&file, "not a tar").unwrap();
    let error = image::load(&engine, &file).await.unwrap_err().to_string();
    assert!(error.contains("no.tar"), "{error}");
}

/// Keeps what it is told.
#[derive(Default)]
struct Notes(Mutex<Vec<String>>);

impl Progress for Notes {
    fn step(&self, _step: Step, _done: u64, _total: u64) {}

    fn note(&self, text: &str) {
        self.0.lock().unwrap().push(text.to_owned());
    }
}
