//! `hopcast init`: a topology.toml with a comment on everything, to be edited.

use std::{
    fs::OpenOptions,
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use clap::Args;
use serde::Serialize;

use crate::{
    exit::{self, Failure},
    location::FILE_NAME,
    output::Output,
};

/// Arguments of `init`.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Where to write it; `-` for stdout (without --json)
    #[arg(value_name = "FILE", default_value = FILE_NAME)]
    file: PathBuf,
    /// Write over a file that is there
    #[arg(long)]
    force: bool,
}

#[derive(Serialize)]
struct Answer {
    file: PathBuf,
}

pub(crate) fn run(out: &Output, arguments: &Arguments) -> anyhow::Result<()> {
    let path = &arguments.file;
    if path.as_os_str() == "-" {
        if out.is_json() {
            return Err(Failure::new(exit::USAGE, "`-` and --json both want stdout; name a file").into());
        }
        out.text(text(Path::new(".")));
        return Ok(());
    }
    let text = text(path.parent().unwrap_or(Path::new("")));
    let mut options = OpenOptions::new();
    if arguments.force {
        options.create(true).truncate(true);
    } else {
        options.create_new(true);
    }
    let written = options.write(true).open(path).and_then(|mut file| file.write_all(text.as_bytes()));
    match written {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            let message = format!("{} is there already; --force writes over it", path.display());
            return Err(Failure::new(exit::CANNOT_WRITE, message).into());
        }
        Err(error) => return Err(exit::cannot_write(path, &error)),
    }
    out.line(format_args!("wrote {}; edit it, then `hopcast check` and `hopcast up`", path.display()));
    out.result(&Answer { file: path.clone() })
}

/// The commented file. Its song comes with the project's own sources: where it is not there, it is commented out.
fn text(folder: &Path) -> String {
    let text = hopcast_topology::init_text();
    if folder.join("songs/demo").exists() {
        return text.to_owned();
    }
    let mut inside = false;
    let mut out = String::with_capacity(text.len() + 16);
    for line in text.lines() {
        inside = line.starts_with("[[songs]]") || (inside && !line.is_empty());
        if inside && !line.starts_with('#') {
            out.push_str("# ");
        }
        out.push_str(line);
        out.push('\n');
    }
    out
}
