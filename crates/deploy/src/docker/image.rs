//! The three images, made without a registry.
//!
//! An image is made from a list of files (`tree`) and a configuration (`archive`) that always give the same bytes, and
//! given to the engine as `docker load` does it: no builder and no base image are needed. Its label `io.hopcast.content`
//! names what it was made from, so an image that would come out the same is not made again.
//!
//! An image with the label `io.hopcast.image` but without that one was made by other means (Nix, a Dockerfile) and is
//! taken as it is. An image without either is not ours, and never touched.

mod archive;
pub(crate) mod data;
mod elf;
mod postgres;
mod programs;
mod shelf;
mod tree;

use std::path::Path;

use hopcast_topology::Plan;
use serde::{Deserialize, Serialize};

use self::{
    archive::{Archive, Recipe},
    data::Data,
    shelf::{Found, Shelf},
};
use super::{engine::Engine, labels};
use crate::{
    error::Error,
    postgres::{OLDEST, Postgres},
    programs::Programs,
    progress::{Progress, Step},
};

/// What our own image of PostgreSQL is called; its tag is the major version.
const OURS: &str = "hopcast-postgres";

/// What an image is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ImageRole {
    /// `hopcast-peer` alone.
    Peer,
    /// `hopcast-signalling`, and `hopcast` for helpers.
    Signalling,
    /// A PostgreSQL server.
    Postgres,
}

impl ImageRole {
    /// As in the label `io.hopcast.image`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Peer => "peer",
            Self::Signalling => "signalling",
            Self::Postgres => "postgres",
        }
    }

    /// The key of the topology file that names it.
    fn setting(self) -> &'static str {
        match self {
            Self::Peer => "docker.peer_image (or IMAGE)",
            Self::Signalling => "docker.signalling_image",
            Self::Postgres => "docker.postgres_image",
        }
    }
}

/// How an image came to be there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Origin {
    /// The engine had it.
    Present,
    /// It was made from files of this machine.
    Built,
    /// It came from a registry.
    Pulled,
    /// It is not there, or is out of date: [`ensure`] makes it. Only [`find`] says this.
    Missing,
}

/// An image that the engine has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Image {
    /// What it is for.
    pub role: ImageRole,
    /// `peer-node:latest`.
    pub name: String,
    /// `sha256:...`: containers are created from this, so that a name that moves on changes nothing under them. Empty
    /// where it is missing.
    pub id: String,
    /// What it holds: the SHA-256 of what it was made from; its id, where other means made it.
    pub content: String,
    /// Its size, in bytes.
    pub bytes: u64,
    /// How it came to be there.
    pub origin: Origin,
}

/// The images of a mesh.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Images {
    /// The peers'.
    pub peer: Image,
    /// The signalling server's and the helpers'.
    pub signalling: Image,
    /// The databases'.
    pub postgres: Image,
    /// PostgreSQL's major version in the databases' image, as far as it says so: data of one cannot be read by another.
    pub database_major: Option<u32>,
}

impl Images {
    /// All three, in the order in which they are made.
    pub fn all(&self) -> [&Image; 3] {
        [&self.peer, &self.signalling, &self.postgres]
    }
}

/// Makes sure that the engine has the plan's images and that they are up to date: makes what is missing or was made from
/// other programs than this machine's, and fetches what only a registry has.
///
/// Where a program is missing or cannot be put into an image, an image of ours under the plan's name is taken as it is.
/// The databases' image is, in this order: what has the plan's name already; ours, if it is up to date; what a registry
/// has under the plan's name, if one answers soon; ours, made from this machine's PostgreSQL under a name of its own,
/// `hopcast-postgres:<major version>`.
pub async fn ensure(engine: &Engine, plan: &Plan, progress: &dyn Progress) -> Result<Images, Error> {
    ensure_from(engine, plan, Programs::find(), progress).await
}

/// As [`ensure`], with these programs.
pub async fn ensure_from(
    engine: &Engine,
    plan: &Plan,
    programs: Result<Programs, Error>,
    progress: &dyn Progress,
) -> Result<Images, Error> {
    ensure_for(engine, plan, programs, &[], progress).await
}

/// As [`ensure_from`], with a databases' image that reads these data.
pub(crate) async fn ensure_for(
    engine: &Engine,
    plan: &Plan,
    programs: Result<Programs, Error>,
    data: &[Data],
    progress: &dyn Progress,
) -> Result<Images, Error> {
    let shelf = Shelf::read(engine).await?;
    Maker { engine, shelf, data, progress: Some(progress) }.images(plan, programs).await
}

/// The images that [`ensure`] would leave, with those that it would have to make as [`Origin::Missing`]. Changes nothing.
pub async fn find(engine: &Engine, plan: &Plan) -> Result<Images, Error> {
    find_for(engine, plan, Programs::find(), &[]).await
}

/// As [`find`], with these programs, and with a databases' image that reads these data.
pub(crate) async fn find_for(
    engine: &Engine,
    plan: &Plan,
    programs: Result<Programs, Error>,
    data: &[Data],
) -> Result<Images, Error> {
    let shelf = Shelf::read(engine).await?;
    Maker { engine, shelf, data, progress: None }.images(plan, programs).await
}

/// Writes the plan's images to a file that `docker load` and [`load`] take; the names in it. They must be there
/// ([`ensure`]).
pub async fn save(engine: &Engine, images: &Images, path: &Path) -> Result<u64, Error> {
    let names = images.all().map(|image| image.name.as_str());
    shelf::save(engine, &names, path).await
}

/// Gives the engine the images of a file that [`save`] or `docker save` wrote; their names.
pub async fn load(engine: &Engine, path: &Path) -> Result<Vec<String>, Error> {
    let names = shelf::put_file(engine, path).await?;
    if names.is_empty() {
        return Err(Error::Missing(format!(
            "{} holds no image that the engine took: it must be what `hopcast image save` or `docker save` wrote",
            path.display()
        )));
    }
    Ok(names)
}

/// An image of a PostgreSQL that replication is not watched on.
fn refuse_old(name: &str, major: Option<u32>) -> Result<(), Error> {
    match major {
        Some(major) if major < OLDEST => Err(Error::Missing(format!(
            "image {name} has PostgreSQL {major}, and {OLDEST} or newer is needed: name another one in docker.postgres_image"
        ))),
        _ => Ok(()),
    }
}

/// Looks for images, and makes them where somebody may hear of it.
struct Maker<'a> {
    engine: &'a Engine,
    /// What was there at the beginning.
    shelf: Shelf,
    /// What the databases' image has to read.
    data: &'a [Data],
    /// `None`: only looks.
    progress: Option<&'a dyn Progress>,
}

impl Maker<'_> {
    fn step(&self, done: u64) {
        if let Some(progress) = self.progress {
            progress.step(Step::Images, done, 3);
        }
    }

    fn note(&self, text: &str) {
        if let Some(progress) = self.progress {
            progress.note(text);
        }
    }

    async fn images(&self, plan: &Plan, programs: Result<Programs, Error>) -> Result<Images, Error> {
        self.step(0);
        let programs = &programs;
        let recipe = |of: fn(&Programs) -> Result<Recipe, Error>| match programs {
            Ok(programs) => of(programs),
            // Said once for each image that wants them.
            Err(error) => Err(Error::Missing(error.to_string())),
        };
        let peer = self.own(ImageRole::Peer, &plan.docker.peer_image, recipe(programs::peer)).await?;
        self.step(1);
        let name = &plan.docker.signalling_image;
        let signalling = self.own(ImageRole::Signalling, name, recipe(programs::signalling)).await?;
        self.step(2);
        let (postgres, found) = self.database(&plan.docker.postgres_image).await?;
        let database_major = found.and_then(|found| found.major);
        refuse_old(&postgres.name, database_major)?;
        data::check(self.data, database_major, &format!("image {}", postgres.name))?;
        self.step(3);
        Ok(Images { peer, signalling, postgres, database_major })
    }

    /// One of hopcast's own images under the plan's name.
    async fn own(&self, role: ImageRole, name: &str, recipe: Result<Recipe, Error>) -> Result<Image, Error> {
        let present = self.shelf.find(self.engine, name).await?;
        if let Some(found) = &present {
            refuse_foreign(role, name, found)?;
        }
        match (recipe, present) {
            (_, Some(found)) if found.content.is_none() => Ok(image(role, name, &found, Origin::Present)),
            (Ok(recipe), present) => {
                let (recipe, content) =
                    blocking(move || recipe.content().map(|content| (recipe, content))).await?;
                match present {
                    Some(found) if found.content.as_ref() == Some(&content) => {
                        Ok(image(role, name, &found, Origin::Present))
                    }
                    _ if self.progress.is_none() => Ok(missing(role, name, content)),
                    present => {
                        let found = self.make(recipe, name, present).await?;
                        Ok(image(role, name, &found, Origin::Built))
                    }
                }
            }
            (Err(why), Some(found)) => {
                self.note(&format!("image {name} stays as it is: {why}"));
                Ok(image(role, name, &found, Origin::Present))
            }
            (Err(why), None) => Err(why),
        }
    }

    /// The databases' image, and what the engine knows of it. The order is [`ensure`]'s.
    async fn database(&self, wanted: &str) -> Result<(Image, Option<Found>), Error> {
        let role = ImageRole::Postgres;
        let taken = |name: &str, found: Found, origin| Ok((image(role, name, &found, origin), Some(found)));
        let mut other = None;
        if self.shelf.find(self.engine, wanted).await?.is_some() {
            // Only a look at it tells its major version.
            if let Some(found) = shelf::find(self.engine, wanted).await? {
                match data::check(self.data, found.major, &format!("image {wanted}")) {
                    Ok(()) => return taken(wanted, found, Origin::Present),
                    Err(error) => other = Some(error),
                }
            }
        }
        let data = self.data.to_vec();
        let recipe = blocking(move || {
            // pg-embed's cache does not count: its packages lack modules.
            let postgres = Postgres::pick(Path::new("/nonexistent"), data.first().map(|data| data.major))?;
            if let Postgres::Installed { bin, major } = &postgres {
                data::check(&data, Some(*major), &bin.display().to_string())?;
            }
            let (recipe, major) = postgres::recipe(&postgres)?;
            Ok((recipe.content()?, recipe, format!("{OURS}:{major}")))
        })
        .await;
        let unfit = other.is_some();
        let recipe = recipe.map_err(|error| other.unwrap_or(error));
        let name = match &recipe {
            Ok((_, _, name)) => Some(name.clone()),
            Err(_) => self.loaded(),
        };
        let mut present = None;
        if let Some(name) = &name
            && let Some(mut found) = self.shelf.find(self.engine, name).await?
        {
            let tag = name.strip_prefix(OURS).and_then(|tag| tag.strip_prefix(':'));
            found.major = found.major.or_else(|| tag?.parse().ok());
            refuse_foreign(role, name, &found)?;
            let current = match (&recipe, &found.content) {
                (Ok((content, ..)), Some(made_from)) => content == made_from,
                _ => true,
            };
            if current && data::check(self.data, found.major, name).is_ok() {
                return taken(name, found, Origin::Present);
            }
            present = Some(found);
        }
        if self.progress.is_none() {
            let (content, _, name) = recipe?;
            return Ok((missing(role, &name, content), None));
        }
        if unfit {
            // Its registry would have the same.
            let (_, recipe, name) = recipe?;
            self.note(&format!("image {wanted} cannot read the databases' data, which {name} can"));
            let found = self.make(recipe, &name, present).await?;
            return taken(&name, found, Origin::Built);
        }
        self.note(&format!("looking for image {wanted} in its registry"));
        let why = match shelf::pull(self.engine, wanted).await {
            Ok(()) => match shelf::find(self.engine, wanted).await? {
                Some(found) => return taken(wanted, found, Origin::Pulled),
                None => "the engine does not have it after all".to_owned(),
            },
            Err(why) => why,
        };
        let (_, recipe, name) = recipe.map_err(|error| {
            Error::Missing(format!("image {wanted} cannot be pulled ({why}), and {error}"))
        })?;
        self.note(&format!("image {wanted} cannot be pulled ({why})"));
        let found = self.make(recipe, &name, present).await?;
        taken(&name, found, Origin::Built)
    }

    /// Without a PostgreSQL here: a databases' image that was made elsewhere and loaded.
    fn loaded(&self) -> Option<String> {
        let fitting = self.data.first().map(|data| format!("{OURS}:{}", data.major));
        let fitting = fitting.filter(|name| self.shelf.has(name));
        fitting.or_else(|| self.shelf.named(ImageRole::Postgres.as_str()).map(str::to_owned))
    }

    /// Makes an image, and removes the one that had its name where nobody uses that.
    async fn make(&self, recipe: Recipe, name: &str, replaced: Option<Found>) -> Result<Found, Error> {
        self.note(&format!("making image {name} from files of this machine"));
        let called = name.to_owned();
        let archive = blocking(move || Archive::pack(&recipe, &called)).await?;
        let id = archive.id();
        shelf::put(self.engine, archive, name).await?;
        let found = shelf::find(self.engine, &id).await?.ok_or_else(|| Error::Engine {
            what: format!("load image {name}"),
            status: None,
            why: format!("the engine took it, but has no image {id}"),
        })?;
        if let Some(replaced) = replaced {
            shelf::remove_replaced(self.engine, &replaced.id).await;
        }
        Ok(found)
    }
}

/// Never takes or replaces an image of somebody else's.
fn refuse_foreign(role: ImageRole, name: &str, found: &Found) -> Result<(), Error> {
    let (label, key) = (labels::IMAGE, role.setting());
    match found.role.as_deref() {
        Some(other) if other == role.as_str() => Ok(()),
        Some(other) => Err(Error::Missing(format!(
            "image {name} is a {other} image of hopcast's, but {key} names it: choose another name there"
        ))),
        None => Err(Error::Missing(format!(
            "image {name} is not hopcast's (it has no label {label}={}), and is left alone: choose another name for {key}, or remove it with `docker rmi {name}`",
            role.as_str()
        ))),
    }
}

fn image(role: ImageRole, name: &str, found: &Found, origin: Origin) -> Image {
    let Found { id, content, bytes, .. } = found.clone();
    Image { role, name: name.to_owned(), content: content.unwrap_or_else(|| id.clone()), id, bytes, origin }
}

fn missing(role: ImageRole, name: &str, content: String) -> Image {
    Image { role, name: name.to_owned(), id: String::new(), content, bytes: 0, origin: Origin::Missing }
}

/// Reading and hashing megabytes is not for the thread that everything else waits for.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_of_a_postgresql_that_is_too_old_is_refused() {
        let error = refuse_old("postgres:14", Some(OLDEST - 1)).unwrap_err().to_string();
        assert!(error.contains("postgres:14") && error.contains("docker.postgres_image"), "{error}");
        refuse_old("postgres:15", Some(OLDEST)).unwrap();
        refuse_old("of-somebody-else:latest", None).unwrap();
    }
}
