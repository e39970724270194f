//! A database that has kept its data and gets another password: after the mesh's secret was lost, or POSTGRES_PASSWORD
//! changed. The password is data of the cluster, so a new container alone still wants the old one.

use std::time::Duration;

use bollard::exec::{CreateExecOptions, StartExecOptions, StartExecResults};
use futures_util::StreamExt as _;
use tokio::{
    io::AsyncWriteExt as _,
    time::{Instant, sleep},
};

use super::engine::{CHANGE, Engine};
use crate::Error;

/// Between two tries on a server that is only just starting.
const AGAIN: Duration = Duration::from_millis(250);
/// psql's exit code where the server does not take its connection (psql(1), "Exit Status").
const NO_CONNECTION: i64 = 2;

/// What runs in the container, as its own user, over the socket that nobody outside of it reaches. Every process of the machine
/// can be seen with its command line, so what it does comes over its standard input.
const PSQL: [&str; 7] = ["psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", "postgres"];

/// The password was wrong (SQLSTATE `invalid_password`).
pub(super) fn is_refused(error: &Error) -> bool {
    matches!(error, Error::Store(error) if error.sqlstate() == Some("28P01"))
}

/// What psql reads. The server gets the verifier alone, so neither it nor its log ever has the password.
fn input(user: &str, password: &str) -> String {
    let verifier = postgres_protocol::password::scram_sha_256(password.as_bytes());
    let user = user.replace('"', "\"\"");
    format!("ALTER ROLE \"{user}\" PASSWORD '{verifier}';\n\\q\n")
}

/// Gives the owner this password, once the server answers, until `patience` is over.
pub(super) async fn reset(
    engine: &Engine,
    name: &str,
    user: &str,
    password: &str,
    port: u16,
    patience: Duration,
) -> Result<(), Error> {
    let what = format!("set the password of database {name}");
    let deadline = Instant::now() + patience;
    let script = input(user, password);
    loop {
        let (container, user, script) = (name.to_owned(), user.to_owned(), script.clone());
        let run = |docker: bollard::Docker| async move {
            let options = CreateExecOptions {
                attach_stdin: Some(true),
                attach_stdout: Some(true),
                attach_stderr: Some(true),
                env: Some(vec![
                    format!("PGUSER={user}"),
                    format!("PGPORT={port}"),
                    "PGHOST=/var/run/postgresql".to_owned(),
                ]),
                cmd: Some(PSQL.map(str::to_owned).to_vec()),
                ..CreateExecOptions::default()
            };
            let id = docker.create_exec(&container, options).await?.id;
            let mut said = Vec::new();
            let started = docker.start_exec(&id, None::<StartExecOptions>).await?;
            if let StartExecResults::Attached { mut output, mut input } = started {
                // A psql that has ended takes no input; its output says why.
                let _ = input.write_all(script.as_bytes()).await;
                let _ = input.shutdown().await;
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
    use std::io::{Read as _, Write as _};

    use hopcast_protocol::{DatabaseAccess, DatabaseName};
    use hopcast_store::Admin;

    use super::*;

    /// What a server says whose first answer is this error.
    async fn refusal(code: &str) -> Error {
        let server = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let access = DatabaseAccess {
            name: DatabaseName::new("edge-db-a").unwrap(),
            host: "127.0.0.1".into(),
            port: server.local_addr().unwrap().port(),
            database: "media".into(),
            user: "media".into(),
            password: "wrong".into(),
        };
        let fields = format!("SFATAL\0C{code}\0Mno\0\0");
        let answering = std::thread::spawn(move || {
            let (mut client, _) = server.accept().unwrap();
            let _ = client.read(&mut [0; 1024]).unwrap();
            let length = (fields.len() as u32 + 4).to_be_bytes();
            client.write_all(&[b"E", &length[..], fields.as_bytes()].concat()).unwrap();
        });
        let refused = Admin::ensure_database(&access, Duration::ZERO).await.unwrap_err();
        answering.join().unwrap();
        refused.into()
    }

    #[tokio::test]
    async fn a_wrong_password_is_told_from_other_refusals() {
        let (wrong, unlisted) = (refusal("28P01").await, refusal("28000").await);
        assert!(is_refused(&wrong), "{wrong}");
        assert!(!is_refused(&unlisted), "{unlisted}");
    }

    #[test]
    fn the_server_gets_a_verifier_of_the_password_and_never_itself() {
        let text = input("me\"dia", "s3cret");
        let verifier = text.strip_prefix("ALTER ROLE \"me\"\"dia\" PASSWORD 'SCRAM-SHA-256$4096:");
        assert!(verifier.is_some_and(|rest| rest.ends_with("';\n\\q\n")), "{text}");
        assert!(!text.contains("s3cret"), "{text}");
    }
}
