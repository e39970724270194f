//! Makes the mesh's directories and starts its keeper.

use std::{
    env,
    fs::OpenOptions,
    os::unix::{fs::OpenOptionsExt as _, process::CommandExt as _},
    path::Path,
    process::Stdio,
    time::Duration,
};

use rustix::fs::OFlags;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader};

use crate::{Error, Session, State, account::Account, error::Doing as _, proc::MARK};

/// How long a keeper may take to begin: it ends orphans first.
const BEGIN: Duration = Duration::from_secs(40);
/// What the keeper and its children see of this process's environment.
const PASSED: [&str; 4] = ["PATH", "RUST_LOG", "RUST_BACKTRACE", "TZ"];

/// Makes the state root and the mesh's directories, for the user that the mesh's processes run as.
pub(super) fn directories(state: &State) -> Result<Account, Error> {
    let dir = state.dir();
    state.create_root().doing("create", state.root())?;
    let account = Account::choose(&dir)?;
    account.can_enter(&dir)?;
    account.directory(&dir, 0o700)?;
    for (name, mode) in [("bin", 0o755), ("config", 0o700), ("log", 0o755), ("pg", 0o700), ("cache", 0o700)] {
        account.directory(&dir.join(name), mode)?;
    }
    Ok(account)
}

/// Starts a keeper and waits until it answers.
pub(super) async fn keeper(state: &State, account: &Account, program: &Path) -> Result<Session, Error> {
    let dir = state.dir();
    let path = state.log("keeper");
    // The directory is the mesh's user's, who must not choose what root hands over.
    let log = OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o644)
        .custom_flags(OFlags::NOFOLLOW.bits() as i32)
        .open(&path)
        .doing("open", &path)?;
    account.hand_over(&log).doing("hand over", &path)?;
    let mut command = std::process::Command::new(program);
    command
        .args(["keeper", "--dir"])
        .arg(&dir)
        .env_clear()
        .envs(PASSED.iter().filter_map(|name| Some((name, env::var_os(name)?))))
        .env(MARK, &dir)
        .env("HOME", &dir)
        .env("USER", &account.name)
        .env("LC_ALL", "C")
        // pg-embed's downloads, where they are allowed.
        .env("XDG_CACHE_HOME", dir.join("cache"))
        .current_dir("/")
        // Ctrl-C is for `up`, which then asks the keeper to stop.
        .process_group(0)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(log);
    if account.other {
        command.uid(account.uid).gid(account.gid);
    }
    let mut child = tokio::process::Command::from(command).spawn().doing("start the keeper", program)?;
    let stdout = child.stdout.take();
    let session = Session::new(child);
    let Some(stdout) = stdout else {
        return Err(Error::Keeper("the keeper has no standard output".into()));
    };
    let mut line = String::new();
    let mut bounded = BufReader::new(stdout.take(4096));
    let read = tokio::time::timeout(BEGIN, bounded.read_line(&mut line)).await;
    match (read, line.trim()) {
        (Ok(Ok(_)), "ready") => Ok(session),
        (Ok(Ok(_)), "") => {
            Err(Error::Keeper(format!("the keeper ended at once; the end of {} says why", path.display())))
        }
        (Ok(Ok(_)), refusal) => Err(Error::Keeper(refusal.to_owned())),
        (Ok(Err(error)), _) => Err(Error::Keeper(format!("failed to hear from the keeper: {error}"))),
        (Err(_), _) => Err(Error::Deadline {
            what: "start the keeper".into(),
            after: BEGIN,
            seen: format!("the end of {} may say why", path.display()),
        }),
    }
}
