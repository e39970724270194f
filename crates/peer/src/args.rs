//! The command line: one option. Written by hand because a parser for it would be a tenth of the program, and there are
//! as many of these processes as peers.

use std::{ffi::OsString, path::PathBuf};

/// What `--help` prints.
pub const HELP: &str = "\
A peer: serves songs to players, and passes segments on for its neighbours.

Usage: hopcast-peer [--config FILE]

Options:
      --config FILE  a configuration file, as `hopcast up` writes it
  -h, --help         print this
  -V, --version      print the version

Without --config it reads
  PEER_NAME       this peer, `peer-1`
  PEER_PORT       where it listens, 8080
  PEER_NEIGHBORS  `peer-2,peer-5`; each name, name:port or name=host:port
  SIGNAL_URL      the signalling server, ws://signalling:7080/ws
  PEER_ROOM       its rooms, a comma list, `default`
and HOPCAST_LOG, in both cases: error, warn, info (default) or debug.

SIGHUP rereads the file; a bad file keeps the old configuration. SIGTERM and SIGINT drain.
Exit codes: 0 stopped by a signal, 1 could not start, 64 wrong configuration or command line, 75 another process has
this peer's name.
";

/// What the command line asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Args {
    /// Run, with this file or from the environment.
    Run(Option<PathBuf>),
    /// Print [`HELP`].
    Help,
    /// Print the version.
    Version,
}

/// Why a command line is not understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ArgsError {
    /// `--config` without a file.
    #[error("--config needs a FILE")]
    NoFile,
    /// `--config` twice.
    #[error("--config is given twice")]
    Twice,
    /// Anything else.
    #[error("unexpected argument `{0}`: try --help")]
    Unexpected(String),
}

/// Reads the arguments, without the program's name.
pub fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Args, ArgsError> {
    let (mut args, mut config) = (args.into_iter(), None);
    while let Some(arg) = args.next() {
        let text = arg.to_string_lossy();
        let file = match text.as_ref() {
            "-h" | "--help" => return Ok(Args::Help),
            "-V" | "--version" => return Ok(Args::Version),
            "--config" => args.next().map(PathBuf::from).ok_or(ArgsError::NoFile)?,
            other => match other.strip_prefix("--config=") {
                Some("") => return Err(ArgsError::NoFile),
                Some(file) => PathBuf::from(file),
                None => return Err(ArgsError::Unexpected(other.to_owned())),
            },
        };
        if config.replace(file).is_some() {
            return Err(ArgsError::Twice);
        }
    }
    Ok(Args::Run(config))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_forms() {
        let read = |args: &[&str]| parse(args.iter().map(OsString::from));
        let file = Ok(Args::Run(Some(PathBuf::from("a.json"))));
        assert_eq!(read(&[]), Ok(Args::Run(None)));
        assert_eq!(read(&["--config", "a.json"]), file);
        assert_eq!(read(&["--config=a.json"]), file);
        assert_eq!(read(&["--config", "a.json", "-h"]), Ok(Args::Help));
        assert_eq!(read(&["--version"]), Ok(Args::Version));
        assert_eq!(read(&["--config"]), Err(ArgsError::NoFile));
        assert_eq!(read(&["--config="]), Err(ArgsError::NoFile));
        assert_eq!(read(&["--config", "a", "--config", "b"]), Err(ArgsError::Twice));
        assert_eq!(read(&["a.json"]), Err(ArgsError::Unexpected("a.json".to_owned())));
    }
}
