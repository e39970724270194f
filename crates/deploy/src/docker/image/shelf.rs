//! The engine's images: looking for one, putting one there, taking some away to a file.
//!
//! Everything here moves megabytes: besides the deadline of each request there is one for a stream that makes no progress.

use std::{
    io::{self, Write},
    path::Path,
    time::Duration,
};

use bollard::{
    Docker,
    errors::Error as Bollard,
    models::ImageSummary,
    query_parameters::{
        CreateImageOptions, CreateImageOptionsBuilder, ImportImageOptionsBuilder, ListImagesOptions,
        RemoveImageOptionsBuilder,
    },
};
use bytes::Bytes;
use futures_util::{Stream, StreamExt as _, stream};
use tokio::{io::AsyncWriteExt as _, sync::mpsc, time::timeout};

use super::archive::Archive;
use crate::{
    docker::{
        engine::{CHANGE, Engine, LOOK},
        labels,
    },
    error::{Doing as _, Error},
};

/// How long a registry may take to say anything.
const REACH: Duration = Duration::from_secs(8);
/// How long a stream may stand still.
const STALL: Duration = Duration::from_secs(60);
/// How long any of them may take as a whole.
const WHOLE: Duration = Duration::from_secs(1800);
/// Pieces of an archive between the thread that makes it and the engine.
const AHEAD: usize = 4;
const PIECE: usize = 256 << 10;

/// An image that the engine has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) id: String,
    pub(crate) bytes: u64,
    /// Its names.
    names: Vec<String>,
    /// `io.hopcast.image`, where it is one of ours.
    pub(crate) role: Option<String>,
    /// `io.hopcast.content`.
    pub(crate) content: Option<String>,
    /// `PG_MAJOR`.
    pub(crate) major: Option<u32>,
}

/// Looks for an image by name or id.
pub(crate) async fn find(engine: &Engine, name: &str) -> Result<Option<Found>, Error> {
    let asked = name.to_owned();
    let answer =
        engine
            .call(format!("look for image {name}"), LOOK, |docker| async move {
                docker.inspect_image(&asked).await
            })
            .await;
    let image = match answer {
        Ok(image) => image,
        Err(error) if error.has_status(404) => return Ok(None),
        Err(error) => return Err(error),
    };
    let config = image.config.unwrap_or_default();
    let labels = config.labels.unwrap_or_default();
    let label = |name: &str| labels.get(name).cloned();
    let major = config.env.unwrap_or_default();
    let major = major.iter().find_map(|set| set.strip_prefix("PG_MAJOR="));
    Ok(Some(Found {
        id: image.id.unwrap_or_default(),
        bytes: image.size.and_then(|size| size.try_into().ok()).unwrap_or_default(),
        names: image.repo_tags.unwrap_or_default(),
        role: label(labels::IMAGE),
        content: label(labels::CONTENT),
        major: major.and_then(|major| major.parse().ok()),
    }))
}

/// Gives the engine an image, made as it goes. An image that had the name loses it.
pub(crate) async fn put(engine: &Engine, mut archive: Archive, what: &str) -> Result<(), Error> {
    let (sender, receiver) = mpsc::channel::<io::Result<Bytes>>(AHEAD);
    let writing = tokio::task::spawn_blocking(move || {
        let mut out = io::BufWriter::with_capacity(PIECE, Pieces(sender.clone()));
        if let Err(error) = archive.write(&mut out).and_then(|()| out.flush()) {
            // Nobody listens any more where the engine has refused, and then its answer says why.
            let _ = sender.blocking_send(Err(error));
        }
    });
    let body =
        stream::unfold(receiver, |mut receiver| async move { Some((receiver.recv().await?, receiver)) });
    let loaded = load(engine.stream(), body).await;
    // Ends at once: its reader is gone.
    let _ = writing.await;
    loaded.map(drop).map_err(|why| failed(format!("load image {what}"), why))
}

/// Gives the engine the images of a file; their names, or ids of those without.
pub(crate) async fn put_file(engine: &Engine, path: &Path) -> Result<Vec<String>, Error> {
    let file = tokio::fs::File::open(path).await.doing("open", path)?;
    let body = stream::unfold(file, |mut file| async move {
        let mut piece = bytes::BytesMut::with_capacity(PIECE);
        match tokio::io::AsyncReadExt::read_buf(&mut file, &mut piece).await {
            Ok(0) => None,
            Ok(_) => Some((Ok(piece.freeze()), file)),
            Err(error) => Some((Err(error), file)),
        }
    });
    load(engine.stream(), body)
        .await
        .map_err(|why| failed(format!("load the images of {}", path.display()), why))
}

async fn load(
    docker: Docker,
    body: impl Stream<Item = io::Result<Bytes>> + Send + 'static,
) -> Result<Vec<String>, String> {
    let options = ImportImageOptionsBuilder::default().quiet(true).build();
    // The engine answers when it has read everything.
    let answer = docker.with_timeout(WHOLE).import_image_stream(options, body, None);
    let mut names = Vec::new();
    each(answer, WHOLE, |info| {
        let line = info.stream.unwrap_or_default();
        let name = line
            .trim()
            .strip_prefix("Loaded image: ")
            .or_else(|| line.trim().strip_prefix("Loaded image ID: "));
        names.extend(name.map(str::to_owned));
        Ok(())
    })
    .await?;
    Ok(names)
}

/// Every image of the engine, in one request. It does not tell [`Found::major`].
#[derive(Debug)]
pub(crate) struct Shelf(Vec<Found>);

impl Shelf {
    pub(crate) async fn read(engine: &Engine) -> Result<Self, Error> {
        let list = |docker: Docker| async move { docker.list_images(None::<ListImagesOptions>).await };
        let images = engine.call("list the images", LOOK, list).await?;
        let found = |image: ImageSummary| Found {
            id: image.id,
            bytes: image.size.try_into().unwrap_or_default(),
            role: image.labels.get(labels::IMAGE).cloned(),
            content: image.labels.get(labels::CONTENT).cloned(),
            names: image.repo_tags,
            major: None,
        };
        Ok(Self(images.into_iter().map(found).collect()))
    }

    /// The image of this name. Names can be written in many ways, so the engine is asked for what the list has not under
    /// exactly this one.
    pub(crate) async fn find(&self, engine: &Engine, name: &str) -> Result<Option<Found>, Error> {
        let tagged = super::archive::tagged(name);
        match self.0.iter().find(|image| image.names.contains(&tagged)) {
            Some(found) => Ok(Some(found.clone())),
            None => find(engine, name).await,
        }
    }

    /// There is an image under exactly this name.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.0.iter().any(|image| image.names.iter().any(|there| there == name))
    }

    /// The name of an image with this role, the greatest where there are several.
    pub(crate) fn named(&self, role: &str) -> Option<&str> {
        let ours = self.0.iter().filter(|image| image.role.as_deref() == Some(role));
        ours.flat_map(|image| &image.names).map(String::as_str).filter(|name| !name.contains("<none>")).max()
    }
}

/// Fetches an image from its registry; why not, where that fails.
pub(crate) async fn pull(engine: &Engine, name: &str) -> Result<(), String> {
    let options = wanted(name);
    let answer = engine.stream().with_timeout(REACH).create_image(Some(options), None, None);
    each(answer, STALL, |info| {
        if let Some(error) = info.error_detail.and_then(|detail| detail.message) {
            return Err(error);
        }
        if let Some(status) = info.status {
            tracing::debug!("pulling {name}: {status}");
        }
        Ok(())
    })
    .await
}

/// One image: of a name without a tag the engine would fetch every tag.
fn wanted(name: &str) -> CreateImageOptions {
    CreateImageOptionsBuilder::default().from_image(&super::archive::tagged(name)).build()
}

/// Reads a stream to its end, within [`WHOLE`] and with no pause longer than `pause`.
async fn each<T>(
    answer: impl Stream<Item = Result<T, Bollard>>,
    pause: Duration,
    mut item: impl FnMut(T) -> Result<(), String>,
) -> Result<(), String> {
    let mut answer = std::pin::pin!(answer);
    let all = async {
        loop {
            match timeout(pause, answer.next()).await {
                Ok(Some(Ok(next))) => item(next)?,
                Ok(Some(Err(error))) => return Err(crate::docker::engine::cause(&error)),
                Ok(None) => return Ok(()),
                Err(_) => return Err(format!("nothing came for {} s", pause.as_secs())),
            }
        }
    };
    timeout(WHOLE, all).await.unwrap_or_else(|_| Err(format!("it took more than {} s", WHOLE.as_secs())))
}

/// Writes images to a file that appears when it is whole; how many bytes it has.
pub(crate) async fn save(engine: &Engine, names: &[&str], path: &Path) -> Result<u64, Error> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let temporary = tempfile::NamedTempFile::new_in(folder).doing("create a file in", folder)?;
    let mut file = tokio::fs::File::from_std(temporary.as_file().try_clone().doing("write", path)?);
    let answer = engine.stream().with_timeout(WHOLE).export_images(names);
    let mut answer = std::pin::pin!(answer);
    let mut bytes = 0;
    let what = || format!("save {} to {}", names.join(", "), path.display());
    loop {
        match timeout(STALL, answer.next()).await {
            Ok(Some(Ok(piece))) => {
                file.write_all(&piece).await.doing("write", path)?;
                bytes += piece.len() as u64;
            }
            Ok(Some(Err(error))) => return Err(failed(what(), crate::docker::engine::cause(&error))),
            Ok(None) => break,
            Err(_) => return Err(failed(what(), format!("nothing came for {} s", STALL.as_secs()))),
        }
    }
    file.flush().await.doing("write", path)?;
    temporary.persist(path).map_err(|error| error.error).doing("write", path)?;
    Ok(bytes)
}

/// Removes an image that lost its name to another, unless it has a second name or a container.
pub(crate) async fn remove_replaced(engine: &Engine, id: &str) {
    // Removing an image by its id takes its last name, too: one with a name is somebody's.
    if !find(engine, id).await.is_ok_and(|found| found.is_some_and(|found| found.names.is_empty())) {
        return;
    }
    let image = id.to_owned();
    let removed = engine
        .call(format!("remove image {id}"), CHANGE, |docker| async move {
            docker.remove_image(&image, Some(RemoveImageOptionsBuilder::default().build()), None).await
        })
        .await;
    if let Err(error) = removed {
        // Its containers go on; the engine keeps it for them.
        tracing::debug!("a replaced image stays: {error}");
    }
}

fn failed(what: String, why: String) -> Error {
    Error::Engine { what, status: None, why }
}

/// Where a thread writes what a task sends on.
struct Pieces(mpsc::Sender<io::Result<Bytes>>);

impl Write for Pieces {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0
            .blocking_send(Ok(Bytes::copy_from_slice(bytes)))
            .map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_pulled_is_one_image() {
        let asked = |name| wanted(name).from_image.unwrap();
        assert_eq!(asked("postgres"), "postgres:latest");
        assert_eq!(asked("postgres:17-alpine"), "postgres:17-alpine");
        let digest = "postgres@sha256:0123456789abcdef";
        assert_eq!(asked(digest), digest);
    }
}
