//! A database that has kept its data and gets another password: after the mesh's secret was lost, or POSTGRES_PASSWORD
//! changed. The password is data of the cluster, so a new container alone still wants the old one.

use std::time::Duration;

use bollard::exec::{CreateExecOptions, StartExecOptions, StartExecResults};
use futures_util::StreamExt as _;
use tokio::time::{Instant, sleep};

use super::{
    engine::{CHANGE, Engine},
    wanted::{FILES, PASSWORD_FILE},
};
use crate::Error;

/// Between two tries on a server that is only just starting.
const AGAIN: Duration = Duration::from_millis(250);
/// psql's exit code where the server does not take its connection (psql(1), "Exit Status").
const NO_CONNECTION: i64 = 2;

/// What runs in the container, as its own user, over the socket that nobody outside of it reaches. The new password is in the
/// container's file, so it stands in no command line that the engine shows.
fn script() -> String {
    format!(
        r#"printf '%s' "ALTER ROLE :\"owner\" PASSWORD :'password'" | psql -X -q -v ON_ERROR_STOP=1 -v owner="$PGUSER" -v password="$(cat {FILES}/{PASSWORD_FILE})" -d postgres"#
    )
}

/// Gives the owner the password of the container's file, once the server answers, until `patience` is over.
pub(super) async fn reset(
    engine: &Engine,
    name: &str,
    user: &str,
    port: u16,
    patience: Duration,
) -> Result<(), Error> {
    let what = format!("set the password of database {name}");
    let deadline = Instant::now() + patience;
    loop {
        let (container, user) = (name.to_owned(), user.to_owned());
        let run = |docker: bollard::Docker| async move {
            let options = CreateExecOptions {
                attach_stdout: Some(true),
                attach_stderr: Some(true),
                env: Some(vec![
                    format!("PGUSER={user}"),
                    format!("PGPORT={port}"),
                    "PGHOST=/var/run/postgresql".to_owned(),
                ]),
                cmd: Some(vec!["sh".to_owned(), "-c".to_owned(), script()]),
                ..CreateExecOptions::default()
            };
            let id = docker.create_exec(&container, options).await?.id;
            let mut said = Vec::new();
            let started = docker.start_exec(&id, None::<StartExecOptions>).await?;
            if let StartExecResults::Attached { mut output, .. } = started {
                while let Some(piece) = output.next().await {
                    let bytes = piece?.into_bytes();
                    said.extend_from_slice(&bytes[..bytes.len().min(4096 - said.len().min(4096))]);
                }
            }
            Ok((docker.inspect_exec(&id).await?.exit_code, said))
        };
        let (code, said) = engine.call(&what, CHANGE, run).await?;
        match code {
            Some(0) => return Ok(()),
            Some(NO_CONNECTION) if Instant::now() < deadline => sleep(AGAIN).await,
            code => {
                let code = code.map_or_else(|| "no exit code".to_owned(), |code| format!("exit code {code}"));
                let why = format!("psql: {code}: {}", String::from_utf8_lossy(&said).trim());
                return Err(Error::Engine { what, status: None, why });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_password_stands_in_no_command_line() {
        let script = script();
        assert!(
            script.contains("$(cat /etc/hopcast/password)") && script.contains(r#"ALTER ROLE :\"owner\""#),
            "{script}"
        );
    }
}
