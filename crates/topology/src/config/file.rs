//! Every key of `topology.toml`. The doc comments are the reference that `docs/topology.md` prints: they speak to the
//! file's author.

use hopcast_protocol::{DatabaseName, MeshName, NetworkName, NodeName, RoomName, SongName};

use super::{
    table::{At, Maybe, tables},
    value::{
        Cpus, Ends, FilePath, Identifier, Image, Int, Listen, Name, Net, Port, Prefix, Rate, Selector,
        ShapeName, Share, Size, Time,
    },
};

/// Most peers of a mesh.
pub(crate) const MAX_PEERS: i64 = 20_000;

tables! {
    /// A whole mesh: its peers, rooms, links, databases and songs.
    struct File {
        mesh: At<Mesh> = {},
        peers: At<Peers> = {},
        /// Each room is a graph of its own; a song is heard inside its rooms.
        rooms: At<Vec<At<Room>>> = [],
        /// Links besides the generated ones, and changes to those.
        links: At<Vec<At<Link>>> = [],
        /// Edge databases with their edge-peer sets.
        edges: At<Vec<At<Edge>>> = [],
        origin: At<Origin> = {},
        /// Songs that `hopcast up` ingests, on every backend: what is stored with the same content is left alone, what differs is replaced.
        songs: At<Vec<At<Song>>> = [],
        postgres: At<Postgres> = {},
        signalling: At<Signalling> = {},
        local: At<Local> = {},
        docker: At<Docker> = {},
        nixos: At<Nixos> = {},
    }

    /// The mesh itself.
    struct Mesh {
        /// Label of everything that belongs to the mesh, and name of its state directory. Meshes with different names
        /// (and different address ranges) can live on one machine.
        name: At<Name<MeshName>> = "hopcast",
    }

    /// The peers, `peer-1`, `peer-2`, ... up to `count`, and the links between them.
    struct Peers {
        /// How many there are. When absent: 160, or with `import` the number of the graph's nodes.
        count: Maybe<Int<1, MAX_PEERS>>,
        /// What their names begin with; `-` and the number follow.
        prefix: At<Prefix> = "peer",
        /// The port that each peer listens on, for players and neighbours alike. The peers of one NixOS VM share an
        /// address: peer i listens on this port + i there.
        port: At<Port> = 8080,
        /// Hard cap of a peer's container; the engine's minimum is 6 MiB.
        memory: At<Size> = "15MiB",
        /// CPU share of a peer's container.
        cpus: At<Cpus> = 0.05,
        /// Most processes and threads in a peer's container.
        pids: At<Int<4, 4_194_304>> = 50,
        /// How many bytes of segments a peer keeps; less than `memory`, and room for one segment at least.
        cache: At<Size> = "4MiB",
        /// Longest segment; a longer one is refused at ingest.
        max_segment: At<Size> = "1MiB",
        /// How long a player's request is held while other ways are tried, 1 s to 10 min.
        patience: At<Time> = "12s",
        links: Maybe<Links>,
    }

    /// The partial mesh: a `shape` with its parameters, or `import`. When absent: `{ shape = "ring", skip = [4] }`. Every shape is deterministic: the same
    /// parameters and `seed` give the same links on every machine. A link from a peer to itself and a second link
    /// between the same two peers are skipped.
    struct Links {
        /// `ring`: i to i+1 and to i+s for each s of `skip`, around the end.
        /// `random-regular`: `degree` links at each peer, at random (`seed`).
        /// `small-world`: Watts and Strogatz: a ring in which each peer is linked to its `k` nearest, each link moved to
        /// a random end with probability `p` (`seed`).
        /// `erdos-renyi`: each pair with probability `p` (`seed`).
        /// `grid`: rows of `width` peers, each linked to its right and lower neighbour.
        /// `full`: every pair.
        /// `none`: only the `[[links]]` of this file.
        shape: Maybe<ShapeName>,
        /// For `ring`: further links to the peers that many places on. When absent: none.
        skip: Maybe<Vec<At<Int<1, MAX_PEERS>>>>,
        /// For `random-regular`: links at each peer; needed.
        degree: Maybe<Int<1, 1024>>,
        /// For `small-world`: nearest neighbours, an even number; needed.
        k: Maybe<Int<2, 1024>>,
        /// For `small-world` and `erdos-renyi`: the probability; needed.
        p: Maybe<Share>,
        /// For the random shapes. When absent: 1.
        seed: Maybe<Int<0, { i64::MAX }>>,
        /// For `grid`: peers in a row. When absent: as square as it gets.
        width: Maybe<Int<1, MAX_PEERS>>,
        /// A graph from a file instead of a shape, relative to this file: node-link JSON as networkx writes it
        /// (`.json`), or CSV with a source and a target in each line (`.csv`). Nodes named like peers are those peers;
        /// any other names stand for the peers in the order in which the file first has them. Directions are ignored.
        import: Maybe<FilePath>,
    }

    /// A room: peers that share an interest.
    struct Room {
        /// Its name, the `room` of the signalling protocol.
        name: At<Name<RoomName>>,
        /// Its peers: names, ranges such as `"peer-1..peer-100"`, or `"*"` for all. A peer may be in several rooms.
        /// The links among them must connect them all, and one of them must be in an edge-peer set.
        peers: At<Vec<At<Selector>>>,
    }

    /// A link, which carries both ways. What is written here replaces what was generated between the two peers. A peer
    /// emulates its links itself, so they work on every backend.
    struct Link {
        /// The names of its two peers.
        between: At<Ends>,
        /// Emulated delay of each direction, up to 60 s.
        latency: Maybe<Time>,
        /// The delay varies by up to this much both ways, up to 60 s.
        jitter: Maybe<Time>,
        /// Emulated rate of each direction, 1 kB/s at least.
        rate: Maybe<Rate>,
        /// Share of the requests that fail, 0 to 1.
        loss: Maybe<Share>,
        /// True takes a generated link away.
        remove: At<bool> = false,
    }

    /// An edge database with its edge-peer set: the only peers that may read it, the gateways.
    struct Edge {
        /// Its name, also that of its container. The first edge is `EDGE1` of the environment variables.
        name: At<Name<DatabaseName>>,
        /// Its network, which only it and its peers are in.
        network: At<Name<NetworkName>>,
        /// Its edge-peer set: names, ranges, or `"*"`.
        peers: At<Vec<At<Selector>>>,
    }

    /// The origin database: what is ingested goes here, and PostgreSQL moves it to the edges. Peers never reach it.
    struct Origin {
        /// Its name, also that of its container.
        name: At<Name<DatabaseName>> = "origin-db",
        /// Its network, which only the databases are in.
        network: At<Name<NetworkName>> = "origin-net",
    }

    /// One song.
    struct Song {
        /// A folder with HLS playlists and segments, or an audio file; relative to this file.
        path: At<FilePath>,
        /// Its name in `/hls/<name>/master.m3u8`. When absent: the path's last part without its extension.
        name: Maybe<Name<SongName>>,
        /// The rooms that may hear it; `"*"` for all.
        rooms: At<Vec<At<Selector>>> = ["*"],
    }

    /// The databases' names and roles. The password comes from the variable `POSTGRES_PASSWORD` or from
    /// `password_file`; when both are absent one is generated. It is never printed.
    struct Postgres {
        /// The database that holds the songs.
        database: At<Identifier> = "hls",
        /// Its owner, a superuser of its cluster.
        user: At<Identifier> = "media",
        /// A file with the owner's password in its first line; relative to this file.
        password_file: Maybe<FilePath>,
        /// The port that every database listens on.
        port: At<Port> = 5432,
    }

    /// The signalling server.
    struct Signalling {
        /// Where it listens in a container or VM; `":7080"` is every address. On this machine it listens on the same
        /// port of 127.0.0.1 where this is every address, see `signalling` of `[local]`.
        listen: At<Listen> = "0.0.0.0:7080",
    }

    /// The mesh as processes on this machine.
    struct Local {
        /// Peer i listens on, and dials from, the first address + i. The databases sit at the top: the origin on the
        /// last address but one, the edges below it. Inside 127.0.0.0/8, without 127.0.0.1.
        network: At<Net> = "127.77.0.0/16",
        /// The door: `/p/<peer>/hls/...` reaches any peer as a player would. In a container it has the same port, so
        /// this is not the port of `listen` of `[signalling]`.
        door: At<Listen> = "127.0.0.1:7081",
        /// Where the signalling server listens on this machine. When absent: on 127.0.0.1, or where `listen` of
        /// `[signalling]` says, if that names one address.
        signalling: Maybe<Listen>,
    }

    /// The mesh as containers of a Docker engine.
    struct Docker {
        /// The peers' network.
        network: At<Name<NetworkName>> = "micro-net",
        /// The addresses that all networks of the mesh are cut from. The peers' network is the lower half: peer i has
        /// its first address + 1 + i. The upper half is cut into 32 networks: the first is the origin's, the others
        /// are the edges', in this file's order.
        subnet: At<Net> = "10.77.0.0/16",
        /// The peers' image; built when missing.
        peer_image: At<Image> = "peer-node:latest",
        /// The signalling server's image; built when missing.
        signalling_image: At<Image> = "hopcast-signalling:latest",
        /// The signalling server's container: meshes that share an engine need a name each.
        signalling_name: At<Name<NodeName>> = "signalling",
        /// The databases' image.
        postgres_image: At<Image> = "postgres:17-alpine",
    }

    /// The mesh in NixOS test VMs.
    struct Nixos {
        /// The VMs among which the peers are spread, evenly and in order.
        peer_hosts: At<Int<1, 250>> = 4,
    }
}
