//! What a player does with a song at one peer: playlists, then segments, over HTTP.

use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use hopcast_deploy::PlayerAddress;
use hopcast_protocol::{RenditionName, Sha256, SongName};
use hopcast_topology::plan::Limits;
use serde::Serialize;

use crate::{
    exit::{self, Failure},
    hops::{self, Hop},
    http::{self, Answer},
};

/// Longest playlist that is read, in bytes.
const PLAYLIST: usize = 4 << 20;
/// Added to the mesh's own patience before a request is given up here.
const MARGIN: Duration = Duration::from_secs(10);

/// One part that was fetched.
#[derive(Debug, Serialize)]
pub(crate) struct Part {
    /// `init.mp4`, `3.ts`.
    pub name: String,
    pub bytes: usize,
    pub sha256: Sha256,
    /// Until the last byte was here.
    pub milliseconds: f64,
    /// The route that the bytes came over; absent where the peer had them itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub route: Option<String>,
    /// `Cache-Status`.
    pub cache: String,
    /// Requester first, holder last.
    pub hops: Vec<Hop>,
}

/// One song through one peer.
pub(crate) struct Player<'a> {
    peer: PlayerAddress,
    song: &'a SongName,
    limit: usize,
    deadline: Duration,
}

impl<'a> Player<'a> {
    pub(crate) fn new(peer: PlayerAddress, song: &'a SongName, limits: &Limits) -> Self {
        let limit = usize::try_from(limits.max_segment).unwrap_or(usize::MAX);
        Self { peer, song, limit, deadline: Duration::from_millis(limits.patience_ms) + MARGIN }
    }

    async fn get(&self, target: &str, limit: usize) -> anyhow::Result<Answer> {
        let path = format!("{}{target}", self.peer.prefix);
        let answer = http::get(self.peer.to, &path, limit, self.deadline).await.map_err(|error| {
            let hint = "is the mesh running? `hopcast status` tells";
            Failure::new(exit::UNAVAILABLE, format!("{error:#}; {hint}"))
        })?;
        if answer.status.is_success() {
            return Ok(answer);
        }
        let mut message = format!("http://{}{target}: {} {}", self.peer, answer.status, answer.sentence());
        let proxy = answer.header("proxy-status");
        if !proxy.is_empty() {
            message.push_str(" (");
            message.push_str(proxy);
            message.push(')');
        }
        Err(Failure::new(exit::FAILED, message.trim_end()).into())
    }

    /// The rendition of the master playlist with the largest bandwidth.
    pub(crate) async fn best_rendition(&self) -> anyhow::Result<RenditionName> {
        let target = format!("/hls/{}/master.m3u8", self.song);
        let answer = self.get(&target, PLAYLIST).await?;
        let master = m3u8_rs::parse_master_playlist_res(&answer.body).map_err(|error| {
            anyhow::anyhow!("http://{}{target} is no master playlist: {error}", self.peer)
        })?;
        let best = master.variants.iter().max_by_key(|variant| variant.bandwidth);
        let uri = &best.with_context(|| format!("{} has no rendition", self.song))?.uri;
        let (name, _) =
            uri.split_once('/').with_context(|| format!("unexpected playlist address `{uri}`"))?;
        Ok(RenditionName::new(name)?)
    }

    /// What the playlist names, in the order of play, the init section first; with `sequence` that segment alone.
    pub(crate) async fn parts(
        &self,
        rendition: &RenditionName,
        sequence: Option<u64>,
    ) -> anyhow::Result<Vec<String>> {
        let target = format!("/hls/{}/{rendition}/index.m3u8", self.song);
        let answer = self.get(&target, PLAYLIST).await?;
        let playlist = m3u8_rs::parse_media_playlist_res(&answer.body)
            .map_err(|error| anyhow::anyhow!("http://{}{target} is no media playlist: {error}", self.peer))?;
        let segments = playlist.segments.iter().map(|segment| segment.uri.clone());
        if let Some(sequence) = sequence {
            let wanted = sequence.to_string();
            let found = segments.clone().find(|uri| uri.split('.').next() == Some(&wanted));
            return Ok(vec![found.with_context(|| {
                let all: Vec<_> = segments.collect();
                let [first, last] = [all.first(), all.last()].map(|uri| uri.map_or("", |uri| file_name(uri)));
                format!(
                    "{}/{rendition} has no segment {sequence}; its segments are {first} to {last}",
                    self.song
                )
            })?]);
        }
        let init = playlist.segments.iter().find_map(|segment| Some(segment.map.as_ref()?.uri.clone()));
        Ok(init.into_iter().chain(segments).collect())
    }

    pub(crate) async fn part(
        &self,
        rendition: &RenditionName,
        uri: &str,
    ) -> anyhow::Result<(Part, http::Body)> {
        let begin = Instant::now();
        let answer = self.get(&format!("/hls/{}/{rendition}/{uri}", self.song), self.limit).await?;
        let milliseconds = begin.elapsed().as_secs_f64() * 1e3;
        let sha256 = Sha256::of(&answer.body);
        let etag = answer.header("etag").trim_matches('"');
        if etag != sha256.to_string() {
            bail!("{}/{rendition}/{uri}: its ETag is {etag}, its bytes have {sha256}", self.song);
        }
        let route = answer.header("hopcast-route");
        let part = Part {
            name: file_name(uri).to_owned(),
            bytes: answer.body.len(),
            sha256,
            milliseconds,
            route: (!route.is_empty()).then(|| route.to_owned()),
            cache: answer.header("cache-status").to_owned(),
            hops: hops::of(&answer),
        };
        Ok((part, answer.body))
    }
}

/// What a playlist's line names, without the query that tells it from an earlier recording.
fn file_name(uri: &str) -> &str {
    uri.split('?').next().unwrap_or(uri)
}
