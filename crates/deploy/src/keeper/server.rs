//! The control socket: HTTP/1.1 with JSON. Whoever can open the socket may do everything, so its mode is 0600.

use std::{convert::Infallible, io, sync::Arc, time::Duration};

use http_body_util::{BodyExt as _, Either, Full, Limited, channel::Channel};
use hyper::{
    Method, Request, Response, StatusCode,
    body::{Bytes, Incoming},
    header::CONTENT_TYPE,
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde::{Serialize, de::DeserializeOwned};
use tokio::{net::UnixStream, sync::mpsc};

use super::{Keeper, apply::Reporter};
use crate::{
    Fault, NodeRole, NodeState, NodeStatus, proc,
    wire::{BODY_BYTES, Desired, Event, Report, WIRE_VERSION},
};

/// How long a request's head may take.
const HEAD: Duration = Duration::from_secs(5);
/// How long a request's body may take.
const BODY: Duration = Duration::from_secs(30);
/// How long a fault may take.
const FAULT: Duration = Duration::from_secs(90);
/// How long an apply may take: initdb and a start of every database are the longest of it.
const APPLY: Duration = Duration::from_secs(180);
/// Lines of a long answer that wait for a slow reader; the work waits then, too.
const EVENTS: usize = 64;

type Body = Either<Full<Bytes>, Channel<Bytes, Infallible>>;

/// Serves one connection.
pub(super) async fn serve(stream: UnixStream, keeper: Arc<Keeper>) {
    let service = service_fn(move |request| {
        let keeper = Arc::clone(&keeper);
        async move { Ok::<_, Infallible>(answer(request, keeper).await) }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service)
        .await;
    if let Err(error) = served {
        tracing::debug!(%error, "control connection");
    }
}

async fn answer(request: Request<Incoming>, keeper: Arc<Keeper>) -> Response<Body> {
    match (request.method(), request.uri().path()) {
        (&Method::GET, "/state") => json(&report(&keeper)),
        (&Method::GET, "/desired") => {
            let desired = keeper.shared().desired.clone();
            json(&desired.as_deref())
        }
        (&Method::POST, "/detach") => {
            keeper.shared().detached = true;
            empty()
        }
        (&Method::POST, "/apply") => match read::<Desired>(request).await {
            Ok(desired) => apply(keeper, desired),
            Err(error) => refuse(StatusCode::BAD_REQUEST, error),
        },
        (&Method::POST, "/fault") => match read::<Fault>(request).await {
            Ok(fault) => break_or_mend(keeper, fault).await,
            Err(error) => refuse(StatusCode::BAD_REQUEST, error),
        },
        (&Method::POST, "/stop") => {
            let (events, response) = stream();
            if keeper.stop.try_send(events).is_err() {
                return refuse(
                    StatusCode::SERVICE_UNAVAILABLE,
                    "too many ask for the end at the same time".into(),
                );
            }
            response
        }
        _ => refuse(StatusCode::NOT_FOUND, "no such request".into()),
    }
}

fn apply(keeper: Arc<Keeper>, desired: Desired) -> Response<Body> {
    let (events, response) = stream();
    tokio::spawn(async move {
        let report = Reporter(events.clone());
        let work = async {
            let mut clusters = keeper.changing.lock().await;
            keeper.apply(&mut clusters, desired, &report).await
        };
        let last = tokio::select! {
            done = tokio::time::timeout(APPLY, work) => match done {
                Ok(Ok(changes)) => Event::Done { changes },
                Ok(Err(error)) => Event::Failed { message: error.to_string() },
                Err(_) => Event::Failed { message: format!("starting took more than {} s", APPLY.as_secs()) },
            },
            () = keeper.stopped() => Event::Failed { message: "the mesh is being stopped".into() },
        };
        let _ = events.send(last).await;
    });
    response
}

async fn break_or_mend(keeper: Arc<Keeper>, fault: Fault) -> Response<Body> {
    // A task of its own: a client that gives up must not stop a change in the middle.
    let task = tokio::spawn(async move {
        let work = async {
            let mut clusters = keeper.changing.lock().await;
            if keeper.is_stopping() {
                return Err(crate::Error::Keeper("the mesh is being stopped".into()));
            }
            keeper.fault(&mut clusters, &fault).await
        };
        tokio::time::timeout(FAULT, work).await
    });
    match task.await {
        Ok(Ok(Ok(()))) => empty(),
        Ok(Ok(Err(error))) => refuse(StatusCode::CONFLICT, error.to_string()),
        Ok(Err(_)) => refuse(StatusCode::CONFLICT, format!("that took more than {} s", FAULT.as_secs())),
        Err(error) => refuse(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
    }
}

fn report(keeper: &Keeper) -> Report {
    let me = std::process::id();
    let mut nodes = vec![NodeStatus {
        name: "keeper".into(),
        role: NodeRole::Keeper,
        state: NodeState::Running,
        pid: Some(me),
        address: None,
        restarts: 0,
        since: keeper.since,
        rss_kb: proc::rss_kb(me),
        cpu_ms: None,
        health: None,
        detail: None,
    }];
    nodes.extend(keeper.nodes.statuses());
    let shared = keeper.shared();
    Report {
        version: WIRE_VERSION,
        pid: me,
        detached: shared.detached,
        stopping: keeper.is_stopping(),
        nodes,
        cut: shared.cut.iter().cloned().collect(),
    }
}

async fn read<T: DeserializeOwned>(request: Request<Incoming>) -> Result<T, String> {
    let body = Limited::new(request.into_body(), BODY_BYTES).collect();
    let bytes = match tokio::time::timeout(BODY, body).await {
        Ok(Ok(body)) => body.to_bytes(),
        Ok(Err(error)) => return Err(format!("the request's body: {error}")),
        Err(_) => return Err("the request's body did not come in time".into()),
    };
    serde_json::from_slice(&bytes).map_err(|error| format!("the request's body: {error}"))
}

/// A long answer: what is sent becomes a line.
fn stream() -> (mpsc::Sender<Event>, Response<Body>) {
    let (events, mut lines) = mpsc::channel::<Event>(EVENTS);
    let (mut body, channel) = Channel::new(EVENTS);
    tokio::spawn(async move {
        // The work goes on without a reader: `recv` empties the channel either way.
        while let Some(event) = lines.recv().await {
            let mut line = serde_json::to_vec(&event).expect("these types have string keys only");
            line.push(b'\n');
            let _ = body.send_data(line.into()).await;
        }
    });
    (events, Response::new(Either::Right(channel)))
}

fn json(value: &impl Serialize) -> Response<Body> {
    let bytes = match serde_json::to_vec(value) {
        Ok(bytes) => bytes,
        Err(error) => return refuse(StatusCode::INTERNAL_SERVER_ERROR, io::Error::from(error).to_string()),
    };
    let mut response = Response::new(Either::Left(bytes.into()));
    response.headers_mut().insert(CONTENT_TYPE, hyper::header::HeaderValue::from_static("application/json"));
    response
}

fn empty() -> Response<Body> {
    let mut response = Response::new(Either::Left(Full::default()));
    *response.status_mut() = StatusCode::NO_CONTENT;
    response
}

fn refuse(status: StatusCode, why: String) -> Response<Body> {
    let mut response = Response::new(Either::Left(why.into()));
    *response.status_mut() = status;
    response
}
