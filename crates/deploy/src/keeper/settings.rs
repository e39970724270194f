//! The files that a cluster reads: our part of postgresql.conf, who may connect, and as whom.

use std::path::Path;

use super::cluster::INCLUDED;
use crate::{error::Error, state::write_new, wire};

/// The map of pg_ident.conf that lets the keeper's user in, over the socket in the data directory.
const MAP: &str = "hopcast";

/// What the store wants, and where sockets and logs are; read at a start.
pub(super) fn write_settings(mesh_dir: &Path, data: &Path, spec: &wire::Cluster) -> Result<(), Error> {
    let ours = [
        ("unix_socket_directories", ".".to_owned()),
        ("unix_socket_permissions", "0700".into()),
        ("logging_collector", "on".into()),
        ("log_directory", mesh_dir.join("log").display().to_string()),
        ("log_filename", format!("{}.log", spec.name)),
        ("log_file_mode", "0644".into()),
        ("log_rotation_age", "0".into()),
        ("log_rotation_size", "0".into()),
        ("log_line_prefix", "%m [%p] %q%u@%d ".into()),
        ("cluster_name", format!("hopcast {}", spec.name)),
    ];
    let mut text = spec.settings.clone();
    text.push('\n');
    for (name, value) in ours {
        text += &format!("{name} = '{}'\n", value.replace('\'', "''"));
    }
    write_new(&data.join(INCLUDED), text.as_bytes(), 0o600)
}

/// Who may connect; reread at SIGHUP.
pub(super) fn write_rules(data: &Path, spec: &wire::Cluster) -> Result<(), Error> {
    let quoted = |text: &str| format!("\"{}\"", text.replace('"', "\"\""));
    // The socket lies in the data directory, where only the cluster's own user can reach it; the kernel vouches for the
    // user. The keeper needs it to set a password anew after the mesh's secret was lost.
    let local = format!("local all {} peer map={MAP}\n", quoted(&spec.user));
    write_new(&data.join("pg_hba.conf"), (local + &spec.hba).as_bytes(), 0o600)?;
    let me = crate::account::user_name(rustix::process::geteuid().as_raw());
    let ident = format!("{MAP} {} {}\n", quoted(&me), quoted(&spec.user));
    write_new(&data.join("pg_ident.conf"), ident.as_bytes(), 0o600)
}
