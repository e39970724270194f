//! Requests to the keeper. A keeper that is not there is no error; one that does not answer is.

use std::{io, time::Duration};

use http_body_util::BodyExt as _;
use hyper::{Method, StatusCode};
use serde::{Serialize, de::DeserializeOwned};

use crate::{
    Changes, Error, Fault, Progress, State, http,
    keeper::SOCKET,
    wire::{Desired, Event, Report, WIRE_VERSION},
};

/// How long a short answer may take.
const SHORT: Duration = Duration::from_secs(5);
/// How long what should run may be under way: it grows with the mesh, up to [`crate::wire::BODY_BYTES`].
const LARGE: Duration = Duration::from_secs(40);
/// How long a fault may take: starting a database is the longest.
const FAULT: Duration = Duration::from_secs(100);
/// How long the keeper may be silent during a long answer.
const SILENCE: Duration = Duration::from_secs(200);
/// How long the socket of a keeper that has broken off may outlive it, and between two looks.
const GOING: Duration = Duration::from_millis(500);
const LOOK: Duration = Duration::from_millis(20);
/// Longest line of a long answer, in bytes.
const LINE: usize = 4 << 20;

/// A keeper that answers.
pub(super) struct Client<'a> {
    state: &'a State,
}

impl<'a> Client<'a> {
    /// `None` where there is no keeper.
    pub(super) async fn connect(state: &'a State) -> Result<Option<Self>, Error> {
        use io::ErrorKind::{ConnectionRefused, ConnectionReset, NotFound};
        match http::connect_unix(&state.dir(), SOCKET).await {
            Ok(_) => Ok(Some(Self { state })),
            // Reset: it ended while the connection waited to be accepted.
            Err(error) if matches!(error.kind(), NotFound | ConnectionRefused | ConnectionReset) => Ok(None),
            Err(source) => {
                Err(Error::File { what: "connect to the keeper at", path: state.dir().join(SOCKET), source })
            }
        }
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        body: Vec<u8>,
        head: Duration,
    ) -> Result<http::Answer, Error> {
        let failed =
            |error: String| Error::Keeper(format!("the keeper of mesh {}: {error}", self.state.mesh()));
        let stream =
            http::connect_unix(&self.state.dir(), SOCKET).await.map_err(|error| failed(error.to_string()))?;
        http::unix(stream, method, path, body, head).await.map_err(failed)
    }

    async fn short(
        &self,
        method: Method,
        path: &str,
        body: &impl Serialize,
        head: Duration,
        whole: Duration,
    ) -> Result<Vec<u8>, Error> {
        // Faults are names, which always have a JSON form.
        let body = serde_json::to_vec(body).expect("it has a JSON form");
        let answer = self.send(method, path, body, head).await?;
        let (status, body) = answer.read(whole).await.map_err(Error::Keeper)?;
        if status.is_success() {
            return Ok(body.into());
        }
        let text = String::from_utf8_lossy(&body).into_owned();
        Err(if status == StatusCode::CONFLICT {
            Error::Keeper(text)
        } else {
            Error::Keeper(format!("the keeper answered {status}: {text}"))
        })
    }

    async fn get<T: DeserializeOwned>(&self, path: &str, within: Duration) -> Result<T, Error> {
        let body = self.short(Method::GET, path, &(), SHORT, within).await?;
        serde_json::from_slice(&body).map_err(|error| {
            Error::Keeper(format!(
                "the keeper of mesh {} is of another version ({error}): `hopcast down`, then `hopcast up`",
                self.state.mesh()
            ))
        })
    }

    /// An answer that broke off is none where the keeper was on its way down: then it is gone now, or in a moment.
    pub(super) async fn unless_gone<T>(&self, answer: Result<T, Error>) -> Result<Option<T>, Error> {
        let error = match answer {
            Ok(answer) => return Ok(Some(answer)),
            Err(error) => error,
        };
        let deadline = tokio::time::Instant::now() + GOING;
        while tokio::time::Instant::now() < deadline {
            if let Ok(None) = Self::connect(self.state).await {
                return Ok(None);
            }
            tokio::time::sleep(LOOK).await;
        }
        Err(error)
    }

    /// What runs.
    pub(super) async fn report(&self) -> Result<Report, Error> {
        let report: Report = self.get("/state", SHORT).await?;
        if report.version != WIRE_VERSION {
            return Err(Error::Keeper(format!(
                "the keeper of mesh {} is of another version: `hopcast down`, then `hopcast up`",
                self.state.mesh()
            )));
        }
        Ok(report)
    }

    /// What should run; `None` before the first apply.
    pub(super) async fn desired(&self) -> Result<Option<Desired>, Error> {
        self.get("/desired", LARGE).await
    }

    /// Breaks or mends something.
    pub(super) async fn fault(&self, fault: &Fault) -> Result<(), Error> {
        self.short(Method::POST, "/fault", fault, FAULT, SHORT).await.map(|_| ())
    }

    /// Has the keeper make what runs equal to this, the [`Desired::body`].
    pub(super) async fn apply(&self, desired: Vec<u8>, progress: &dyn Progress) -> Result<Changes, Error> {
        match self.long("/apply", desired, LARGE, progress).await? {
            Event::Done { changes } => Ok(changes),
            Event::Failed { message } => Err(Error::Keeper(message)),
            other => Err(Error::Keeper(format!("the keeper broke off after {other:?}"))),
        }
    }

    /// Has the keeper stop everything, itself too; the names of what ran.
    pub(super) async fn stop(&self, progress: &dyn Progress) -> Result<Vec<String>, Error> {
        match self.long("/stop", b"null".into(), SHORT, progress).await? {
            Event::Stopped { nodes } => Ok(nodes),
            other => Err(Error::Keeper(format!("the keeper broke off after {other:?}"))),
        }
    }

    /// The last event of a long answer, which begins within `head`; the steps go to `progress`.
    async fn long(
        &self,
        path: &str,
        body: Vec<u8>,
        head: Duration,
        progress: &dyn Progress,
    ) -> Result<Event, Error> {
        let mut answer = self.send(Method::POST, path, body, head).await?;
        if !answer.response.status().is_success() {
            let (status, body) = answer.read(SHORT).await.map_err(Error::Keeper)?;
            return Err(Error::Keeper(format!(
                "the keeper answered {status}: {}",
                String::from_utf8_lossy(&body)
            )));
        }
        let mut buffer = Vec::new();
        let mut last = None;
        loop {
            let frame = match tokio::time::timeout(SILENCE, answer.response.body_mut().frame()).await {
                Ok(Some(Ok(frame))) => frame,
                Ok(None) => break,
                Ok(Some(Err(error))) => {
                    return Err(Error::Keeper(format!(
                        "the keeper has ended in the middle of its answer ({error}); `hopcast logs keeper` may say why"
                    )));
                }
                Err(_) => {
                    return Err(Error::Keeper(format!("the keeper was silent for {} s", SILENCE.as_secs())));
                }
            };
            buffer.extend_from_slice(frame.data_ref().map_or(&[], |data| data));
            while let Some(end) = buffer.iter().position(|&byte| byte == b'\n') {
                let event = serde_json::from_slice(&buffer[..end])
                    .map_err(|error| Error::Keeper(format!("the keeper's answer: {error}")))?;
                buffer.drain(..=end);
                if let Event::Step { step, done, total } = event {
                    progress.step(step, done, total);
                } else {
                    last = Some(event);
                }
            }
            if buffer.len() > LINE {
                return Err(Error::Keeper("the keeper's answer has a line without end".into()));
            }
        }
        last.ok_or_else(|| {
            Error::Keeper("the keeper ended without an answer; `hopcast logs keeper` may say why".into())
        })
    }
}
