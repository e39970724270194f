//! The command line, and the settings that it means.

use std::path::PathBuf;

use clap::Parser;
use hopcast_protocol::limits::EXIT_CONFIG;
use hopcast_topology::{Env, VARIABLES};

use crate::{
    config::{self, Listen, Settings},
    error::ConfigError,
    topology,
};

/// The signalling server of a hopcast mesh: who is here, and the shortest way between them.
///
/// Without a file it is open: any peer may enter any room and announce any link.
#[derive(Debug, Clone, Parser)]
#[command(name = "hopcast-signalling", version)]
#[command(
    after_help = "Variables: SIGNAL_ADDR, where to listen; SIGNAL_LIVENESS=announced, paths may run through peers that are\n\
    announced but not connected, as in the original; with --topology those of `hopcast check` too.\n\
    Exit codes: 0 stopped by a signal, 64 wrong configuration, 69 an address is taken.\n\
    SIGHUP rereads the file (a bad one keeps the old), SIGTERM and SIGINT drain."
)]
pub struct Args {
    /// The file that `hopcast up` writes: rooms, tokens, door, address. Nothing else counts then
    #[arg(long, value_name = "FILE", conflicts_with_all = ["topology", "listen"])]
    pub config: Option<PathBuf>,
    /// The keys of that file, where they are not in it, as `hopcast generate nixos-keys` writes them
    #[arg(long, value_name = "FILE", requires = "config")]
    pub keys: Option<PathBuf>,
    /// A topology file: its rooms and links are the only ones, its peers need no token
    #[arg(long, value_name = "FILE")]
    pub topology: Option<PathBuf>,
    /// Where to listen: HOST:PORT, or :PORT for every address. Else SIGNAL_ADDR, the topology's address, or :7080
    #[arg(long, value_name = "ADDR")]
    pub listen: Option<String>,
}

impl Args {
    /// Reads and checks everything; nothing is bound yet.
    ///
    /// `var` looks up an environment variable.
    pub fn settings(&self, var: impl Fn(&str) -> Option<String>) -> Result<Settings, ConfigError> {
        let liveness = var("SIGNAL_LIVENESS").unwrap_or_default();
        let liveness =
            config::liveness(&liveness).map_err(|problem| ConfigError::one("SIGNAL_LIVENESS", problem))?;
        let mut settings = match (&self.config, &self.topology) {
            (Some(file), _) => Settings::from_config_file(file, self.keys.as_deref())?,
            (None, Some(file)) => topology::settings(file, &environment(&var))?,
            (None, None) => Settings::open(Listen::default()),
        };
        if self.config.is_none() {
            let given = match &self.listen {
                Some(listen) => Some(("--listen", listen.clone())),
                None => var("SIGNAL_ADDR").filter(|text| !text.is_empty()).map(|text| ("SIGNAL_ADDR", text)),
            };
            if let Some((source, text)) = given {
                settings.listen = text.parse().map_err(|problem| ConfigError::one(source, problem))?;
            }
        }
        settings.liveness = liveness;
        Ok(settings)
    }
}

/// What a topology file is changed by. The address is not among it: this program takes every form of it, itself.
fn environment(var: &impl Fn(&str) -> Option<String>) -> Env {
    let names = VARIABLES.iter().map(|&(name, _)| name).filter(|&name| name != "SIGNAL_ADDR");
    names.filter_map(|name| Some((name, var(name)?))).collect()
}

/// The exit code of a [`ConfigError`].
pub const CONFIG_EXIT: u8 = EXIT_CONFIG as u8;
