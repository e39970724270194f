//! A peer on a thread of its own, so that it can be killed, frozen and changed like a process.

use std::{rc::Rc, sync::mpsc, thread::JoinHandle};

use hopcast_peer::{
    Exit, Peer,
    gateway::{Memory, Source},
};
use hopcast_protocol::{PeerConfig, Sha256, SongName};
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

use super::song::Song;

type Order = Box<dyn FnOnce(&Peer, &Memory) + Send>;

pub(crate) struct PeerThread {
    orders: Option<UnboundedSender<Order>>,
    thread: Option<JoinHandle<Option<Exit>>>,
}

impl PeerThread {
    /// Starts a peer; with a song it is a gateway.
    pub(crate) fn start(config: PeerConfig, song: Option<Song>) -> Self {
        let (orders, mut received) = unbounded_channel::<Order>();
        let (started, wait) = mpsc::channel();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build_local(tokio::runtime::LocalOptions::default())
                .unwrap();
            runtime.block_on(async {
                let memory = Rc::new(Memory::default());
                let mut sources: Vec<Rc<dyn Source>> = vec![];
                if let Some(song) = song {
                    memory.put_manifest(SongName::new("demo").unwrap(), song.manifest);
                    for segment in song.segments {
                        memory.put_blob(Sha256::of(&segment), segment);
                    }
                    sources.push(memory.clone());
                }
                let peer =
                    Peer::start(config, Box::new(move |_| sources.clone())).expect("the address is free");
                started.send(()).unwrap();
                let killed = async {
                    while let Some(order) = received.recv().await {
                        order(&peer, &memory);
                    }
                };
                tokio::select! {
                    exit = peer.run(std::future::pending()) => Some(exit),
                    () = killed => None,
                }
            })
        });
        wait.recv().expect("the peer starts");
        Self { orders: Some(orders), thread: Some(thread) }
    }

    /// Does something on the peer's thread and waits for the result.
    pub(crate) fn with<T: Send + 'static>(
        &self,
        what: impl FnOnce(&Peer, &Memory) -> T + Send + 'static,
    ) -> T {
        let (reply, result) = mpsc::channel();
        let order: Order = Box::new(move |peer, memory| {
            let _ = reply.send(what(peer, memory));
        });
        assert!(self.orders.as_ref().unwrap().send(order).is_ok(), "the peer has ended");
        result.recv().expect("the peer answers")
    }

    /// The peer's thread stands still, with its sockets open, until the result is dropped.
    pub(crate) fn freeze(&self) -> mpsc::Sender<()> {
        let (thaw, frozen) = mpsc::channel();
        self.with(|_, _| ()); // it runs now
        let order: Order = Box::new(move |_, _| {
            let _ = frozen.recv();
        });
        assert!(self.orders.as_ref().unwrap().send(order).is_ok());
        thaw
    }

    /// Ends it at once: sockets are closed, nothing is said.
    pub(crate) fn kill(mut self) {
        self.orders = None;
        let _ = self.thread.take().unwrap().join();
    }

    /// Waits until it ends by itself.
    pub(crate) fn ended(mut self) -> Option<Exit> {
        self.thread.take().unwrap().join().unwrap()
    }
}

impl Drop for PeerThread {
    fn drop(&mut self) {
        self.orders = None;
        if let Some(thread) = self.thread.take()
            && !std::thread::panicking()
        {
            let _ = thread.join();
        }
    }
}
