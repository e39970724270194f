//! The superuser's password, which may change under a cluster: POSTGRES_PASSWORD is another, or the secret was lost.

use std::{fs, os::fd::AsRawFd as _, path::Path, time::Duration};

use tokio_postgres::{NoTls, error::SqlState};

use crate::{
    error::{Doing as _, Error},
    wire,
};

/// How long a connection of the keeper's own may take.
const CONNECT: Duration = Duration::from_secs(10);

/// The superuser's password is the wanted one, also where the cluster was made with another.
pub(super) async fn ensure(data: &Path, spec: &wire::Cluster, password: &str) -> Result<(), Error> {
    let mut config = tokio_postgres::Config::new();
    config.user(&spec.user).dbname("postgres").application_name("hopcast-keeper").connect_timeout(CONNECT);
    let failed = |error: &dyn std::fmt::Display| {
        Error::Keeper(format!("failed to log in to database {} as {}: {error}", spec.name, spec.user))
    };
    let within = |future| tokio::time::timeout(CONNECT, future);
    let mut tcp = config.clone();
    tcp.hostaddr(spec.listen.ip()).port(spec.listen.port()).password(password);
    let refused = match within(tcp.connect(NoTls)).await {
        Ok(Ok(_)) => return Ok(()),
        Ok(Err(error)) => error,
        Err(late) => return Err(failed(&late)),
    };
    if refused.code() != Some(&SqlState::INVALID_PASSWORD) {
        return Err(failed(&reason(&refused)));
    }
    // Through a descriptor of the directory: the path of a Unix socket may have 107 bytes only.
    let handle = fs::File::open(data).doing("open", data)?;
    config.host_path(format!("/proc/self/fd/{}", handle.as_raw_fd())).port(spec.listen.port());
    let (client, connection) = match tokio::time::timeout(CONNECT, config.connect(NoTls)).await {
        Ok(Ok(connected)) => connected,
        Ok(Err(error)) => {
            return Err(Error::Keeper(format!(
                "database {} does not know {} ({}): it was made for another `postgres.user`; put that back, or delete the data with `hopcast down --purge`",
                spec.name,
                spec.user,
                reason(&error)
            )));
        }
        Err(late) => return Err(failed(&late)),
    };
    let driver = tokio::spawn(connection);
    let verifier = postgres_protocol::password::scram_sha_256(password.as_bytes());
    let user = spec.user.replace('"', "\"\"");
    let change = format!("ALTER ROLE \"{user}\" PASSWORD '{verifier}'");
    let changed = tokio::time::timeout(CONNECT, client.batch_execute(&change)).await;
    driver.abort();
    match changed {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(failed(&reason(&error))),
        Err(late) => Err(failed(&late)),
    }
}

fn reason(error: &tokio_postgres::Error) -> String {
    error.as_db_error().map_or_else(|| error.to_string(), |error| error.message().to_owned())
}
