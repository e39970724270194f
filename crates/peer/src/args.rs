//! The command line: two options. Written by hand because a parser for them would be a tenth of the program, and there are
//! as many of these processes as peers.

use std::{ffi::OsString, path::PathBuf};

/// What `--help` prints.
pub const HELP: &str = "\
A peer: serves songs to players, and passes segments on for its neighbours.

Usage: hopcast-peer [--config FILE [--keys FILE]]

Options:
      --config FILE  a configuration file, as `hopcast up` writes it
      --keys FILE    its keys, where they are not in it, as `hopcast generate nixos-keys` writes them
  -h, --help         print this
  -V, --version      print the version

Without --config it reads
  PEER_NAME       this peer, `peer-1`
  PEER_PORT       where it listens, 8080
  PEER_NEIGHBORS  `peer-2,peer-5`; each name, name:port or name=host:port
  SIGNAL_URL      the signalling server, ws://signalling:7080/ws
  PEER_ROOM       its rooms, a comma list, `default`
and HOPCAST_LOG, in both cases: error, warn, info (default) or debug.

SIGHUP rereads the files; a bad one keeps the old configuration. SIGTERM and SIGINT drain.
Exit codes: 0 stopped by a signal, 1 could not start, 64 wrong configuration or command line, 69 its address is taken
or not here, 75 another process has this peer's name.
";

/// What the command line asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Args {
    /// Run, with these files or from the environment.
    Run(Option<Files>),
    /// Print [`HELP`].
    Help,
    /// Print the version.
    Version,
}

/// Where a configuration is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Files {
    /// The configuration.
    pub config: PathBuf,
    /// Its secret part, where that is a file of its own.
    pub keys: Option<PathBuf>,
}

/// Why a command line is not understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ArgsError {
    /// An option without its file.
    #[error("{0} needs a FILE")]
    NoFile(&'static str),
    /// An option twice.
    #[error("{0} is given twice")]
    Twice(&'static str),
    /// `--keys` alone.
    #[error("--keys belongs to a --config FILE")]
    KeysAlone,
    /// Anything else.
    #[error("unexpected argument `{0}`: try --help")]
    Unexpected(String),
}

/// Reads the arguments, without the program's name.
pub fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Args, ArgsError> {
    let (mut args, mut config, mut keys) = (args.into_iter(), None, None);
    while let Some(arg) = args.next() {
        let text = arg.to_string_lossy();
        let (name, value) = match text.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (text.as_ref(), None),
        };
        let (name, file) = match name {
            "-h" | "--help" if value.is_none() => return Ok(Args::Help),
            "-V" | "--version" if value.is_none() => return Ok(Args::Version),
            "--config" => ("--config", &mut config),
            "--keys" => ("--keys", &mut keys),
            _ => return Err(ArgsError::Unexpected(text.into_owned())),
        };
        let path = match value {
            Some(value) => Some(PathBuf::from(value)),
            None => args.next().map(PathBuf::from),
        };
        let path = path.filter(|path| !path.as_os_str().is_empty()).ok_or(ArgsError::NoFile(name))?;
        if file.replace(path).is_some() {
            return Err(ArgsError::Twice(name));
        }
    }
    match (config, keys) {
        (Some(config), keys) => Ok(Args::Run(Some(Files { config, keys }))),
        (None, Some(_)) => Err(ArgsError::KeysAlone),
        (None, None) => Ok(Args::Run(None)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_help_lists_every_code() {
        use hopcast_protocol::limits::{EXIT_CONFIG, EXIT_REPLACED, EXIT_UNAVAILABLE};
        let (_, codes) = HELP.split_once("Exit codes:").unwrap();
        for code in [0, 1, EXIT_CONFIG, EXIT_UNAVAILABLE, EXIT_REPLACED] {
            assert!(codes.split([' ', '\n']).any(|word| word == code.to_string()), "{code}");
        }
    }

    #[test]
    fn all_forms() {
        let read = |args: &[&str]| parse(args.iter().map(OsString::from));
        let files = |keys: Option<&str>| {
            Ok(Args::Run(Some(Files { config: "a.json".into(), keys: keys.map(PathBuf::from) })))
        };
        let file = files(None);
        assert_eq!(read(&[]), Ok(Args::Run(None)));
        assert_eq!(read(&["--config", "a.json"]), file);
        assert_eq!(read(&["--config=a.json"]), file);
        assert_eq!(read(&["--config", "a.json", "-h"]), Ok(Args::Help));
        assert_eq!(read(&["--version"]), Ok(Args::Version));
        assert_eq!(read(&["--keys=k.json", "--config", "a.json"]), files(Some("k.json")));
        assert_eq!(read(&["--config"]), Err(ArgsError::NoFile("--config")));
        assert_eq!(read(&["--config="]), Err(ArgsError::NoFile("--config")));
        assert_eq!(read(&["--config", "a", "--config", "b"]), Err(ArgsError::Twice("--config")));
        assert_eq!(read(&["--keys", "k.json"]), Err(ArgsError::KeysAlone));
        assert_eq!(read(&["a.json"]), Err(ArgsError::Unexpected("a.json".to_owned())));
    }
}
