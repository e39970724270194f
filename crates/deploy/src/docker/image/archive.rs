//! A recipe for an image, and the archive that `docker load` takes: its configuration, one layer, its name.
//!
//! The archive is the form of `docker save` (the Docker Image Specification v1.2): no builder and no base image are
//! needed, and the image's id is decided by its files alone.

use std::{
    fmt::Write as _,
    fs::File,
    io::{self, Seek as _, Write},
};

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tar::{Builder, Header};

use super::{ImageRole, tree::Tree};
use crate::{
    docker::labels::{CONTENT, IMAGE},
    error::{Doing as _, Error},
};

/// When every image was made, as far as its configuration says: a real time would make another image each time.
const CREATED: &str = "1970-01-01T00:00:01Z";

/// What an image consists of.
#[derive(Debug)]
pub(crate) struct Recipe {
    pub(crate) role: ImageRole,
    /// Its files.
    pub(crate) tree: Tree,
    /// `User`, `Entrypoint`, ...: the `config` object of the specification, without `Labels`.
    pub(crate) config: Value,
}

impl Recipe {
    /// The SHA-256 of everything that the image is made from, in hex. Reads every file.
    pub(crate) fn content(&self) -> Result<String, Error> {
        let mut layer = Hashing::new(io::sink());
        self.tree.write(&mut layer)?;
        Ok(hex(Sha256::digest(self.configuration(&layer.digest(), None).to_string())))
    }

    fn configuration(&self, layer: &str, content: Option<&str>) -> Value {
        let mut config = self.config.clone();
        let mut labels = json!({ IMAGE: self.role.as_str() });
        if let Some(content) = content {
            labels[CONTENT] = content.into();
        }
        config["Labels"] = labels;
        json!({
            "architecture": architecture(),
            "os": "linux",
            "created": CREATED,
            "config": config,
            "rootfs": { "type": "layers", "diff_ids": [format!("sha256:{layer}")] },
            "history": [{ "created": CREATED, "created_by": "hopcast image build" }],
        })
    }
}

/// As Go, and so Docker, calls it.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "x86" => "386",
        other => other,
    }
}

/// An image, ready to be loaded. Its layer lies in a nameless temporary file.
#[derive(Debug)]
pub(crate) struct Archive {
    layer: File,
    length: u64,
    digest: String,
    configuration: String,
    name: String,
}

impl Archive {
    /// Packs the image's files. `name` is what it will be called: `peer-node:latest`.
    pub(crate) fn pack(recipe: &Recipe, name: &str) -> Result<Self, Error> {
        let file = tempfile::tempfile().doing("create a temporary file in", std::env::temp_dir())?;
        let mut layer = Hashing::new(io::BufWriter::with_capacity(1 << 20, file));
        recipe.tree.write(&mut layer)?;
        let (digest, length) = (layer.digest(), layer.length);
        let layer = layer.inner.into_inner().map_err(io::IntoInnerError::into_error);
        let layer = layer.doing("write a temporary file in", std::env::temp_dir())?;
        let content = hex(Sha256::digest(recipe.configuration(&digest, None).to_string()));
        let configuration = recipe.configuration(&digest, Some(&content)).to_string();
        Ok(Self { layer, length, digest, configuration, name: tagged(name) })
    }

    /// The image's id: `sha256:` and the digest of its configuration.
    pub(crate) fn id(&self) -> String {
        format!("sha256:{}", hex(Sha256::digest(&self.configuration)))
    }

    /// Writes the archive.
    pub(crate) fn write(&mut self, out: impl Write) -> io::Result<()> {
        let configuration = format!("{}.json", hex(Sha256::digest(&self.configuration)));
        let layer = format!("{}/layer.tar", self.digest);
        let manifest = json!([{ "Config": configuration, "RepoTags": [self.name], "Layers": [layer] }]);
        let mut tar = Builder::new(out);
        tar.append_data(
            &mut header(self.configuration.len() as u64),
            configuration,
            self.configuration.as_bytes(),
        )?;
        self.layer.rewind()?;
        tar.append_data(&mut header(self.length), layer, &mut self.layer)?;
        let manifest = manifest.to_string();
        tar.append_data(&mut header(manifest.len() as u64), "manifest.json", manifest.as_bytes())?;
        tar.into_inner()?.flush()
    }
}

/// An archive's names have a tag; `peer-node` means `peer-node:latest`. A port is no tag: `host:5000/peer-node`.
pub(super) fn tagged(name: &str) -> String {
    let last = name.rsplit('/').next().unwrap_or(name);
    if last.contains(':') { name.to_owned() } else { format!("{name}:latest") }
}

fn header(size: u64) -> Header {
    let mut header = Header::new_gnu();
    header.set_mode(0o644);
    header.set_mtime(1);
    header.set_size(size);
    header
}

/// Hashes what goes through it.
struct Hashing<W> {
    inner: W,
    hash: Sha256,
    length: u64,
}

impl<W> Hashing<W> {
    fn new(inner: W) -> Self {
        Self { inner, hash: Sha256::new(), length: 0 }
    }

    fn digest(&self) -> String {
        hex(self.hash.clone().finalize())
    }
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.hash.update(&bytes[..written]);
        self.length += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

fn hex(bytes: impl AsRef<[u8]>) -> String {
    let mut text = String::new();
    for byte in bytes.as_ref() {
        // Writing to a string never fails.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, io::Read as _};

    use super::*;

    fn recipe(text: &str) -> Recipe {
        let mut tree = Tree::default();
        tree.text("hopcast-peer", text, 0o755);
        Recipe { role: ImageRole::Peer, tree, config: json!({ "User": "65532:65532" }) }
    }

    fn archive(recipe: &Recipe) -> (String, Vec<u8>) {
        let mut archive = Archive::pack(recipe, "peer-node:latest").unwrap();
        let mut bytes = Vec::new();
        archive.write(&mut bytes).unwrap();
        (archive.id(), bytes)
    }

    #[test]
    fn content_decides_the_image() {
        let (first, second) = (archive(&recipe("1")), archive(&recipe("1")));
        assert_eq!(first, second);
        assert_ne!(first.0, archive(&recipe("2")).0);
        let mut other = recipe("1");
        other.config["User"] = "1:1".into();
        assert_ne!(recipe("1").content().unwrap(), other.content().unwrap());
    }

    #[test]
    fn every_name_has_a_tag() {
        assert_eq!(tagged("peer-node"), "peer-node:latest");
        assert_eq!(tagged("host:5000/a/peer-node"), "host:5000/a/peer-node:latest");
        assert_eq!(tagged("host:5000/a/peer-node:2"), "host:5000/a/peer-node:2");
    }

    #[test]
    fn the_archive_agrees_with_itself() {
        let (id, bytes) = archive(&recipe("#!"));
        let mut files = BTreeMap::new();
        for entry in tar::Archive::new(&bytes[..]).entries().unwrap() {
            let mut entry = entry.unwrap();
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes).unwrap();
            files.insert(entry.path().unwrap().display().to_string(), bytes);
        }
        let manifest: Value = serde_json::from_slice(&files["manifest.json"]).unwrap();
        assert_eq!(manifest[0]["RepoTags"][0], "peer-node:latest");
        let configuration = &files[manifest[0]["Config"].as_str().unwrap()];
        assert_eq!(id, format!("sha256:{}", hex(Sha256::digest(configuration))));
        let configuration: Value = serde_json::from_slice(configuration).unwrap();
        let layer = &files[manifest[0]["Layers"][0].as_str().unwrap()];
        assert_eq!(configuration["rootfs"]["diff_ids"][0], format!("sha256:{}", hex(Sha256::digest(layer))));
        assert_eq!(configuration["config"]["Labels"][IMAGE], "peer");
        assert_eq!(configuration["config"]["Labels"][CONTENT], recipe("#!").content().unwrap());
    }
}
