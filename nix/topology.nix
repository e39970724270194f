# What a topology file means for NixOS: its hosts, and what runs on each. Names, ports and networks alone; everything else
# is made by `hopcast generate nixos-configs` when a host is built. The defaults are those of docs/topology.md.
{ lib }:
{
  file,
  # The directory that everything which the file names lies below.
  root ? null,
}:
let
  shown = baseNameOf file;
  read = lib.importTOML file;
  refuse = what: throw "${shown}: ${what}";
  table = name: read.${name} or { };
  # The value of a key that has no default.
  need =
    where: set: key:
    set.${key} or (refuse "${where} has no `${key}'; write one, or see `hopcast check'");

  peers = {
    # As many as the graph has nodes, which only hopcast itself can count.
    count =
      if graph == null then
        160
      else
        refuse "[peers] imports its links and has no `count'; write the graph's number of nodes, which `hopcast check' tells";
    prefix = "peer";
    port = 8080;
    memory = "15MiB";
    cpus = 0.05;
    pids = 50;
  }
  // table "peers";
  origin = {
    name = "origin-db";
    network = "origin-net";
  }
  // table "origin";
  postgres = {
    database = "hls";
    user = "media";
    port = 5432;
  }
  // table "postgres";
  micro = (table "docker").network or "micro-net";
  signallingPort = lib.toInt (
    lib.head (lib.match ".*:([0-9]+)" ((table "signalling").listen or "0.0.0.0:7080"))
  );
  edges = lib.imap1 (
    number: edge:
    let
      where = "[[edges]] number ${toString number}";
    in
    {
      name = need where edge "name";
      network = need where edge "network";
      peers = lib.concatMap (numbersOf where) (need where edge "peers");
    }
  ) (read.edges or [ ]);

  # The numbers of `peer-7`, `peer-1..peer-8` or `*`.
  numberOf =
    where: name:
    let
      found = lib.match "${lib.replaceStrings [ "." ] [ "\\." ] peers.prefix}-([0-9]+)" name;
    in
    if found == null then refuse "${where}: `${name}' is not a peer" else lib.toInt (lib.head found);
  numbersOf =
    where: text:
    let
      ends = lib.match "(.*[0-9])\\.\\.(.*)" text;
    in
    if text == "*" then
      lib.range 1 peers.count
    else if ends == null then
      [ (numberOf where text) ]
    else
      lib.range (numberOf where (lib.head ends)) (numberOf where (lib.elemAt ends 1));

  # `15MiB` in bytes.
  bytes =
    text:
    let
      parts = lib.match "([0-9]+)(\\.[0-9]+)? ?(B|kB|KiB|MB|MiB|GB|GiB)" text;
      units = {
        B = 1;
        kB = 1000;
        KiB = 1024;
        MB = 1000000;
        MiB = 1048576;
        GB = 1000000000;
        GiB = 1073741824;
      };
      number = builtins.fromJSON (
        lib.elemAt parts 0 + (if lib.elemAt parts 1 == null then "" else lib.elemAt parts 1)
      );
    in
    if !(lib.isString text) || parts == null then
      refuse "[peers] memory is `${toString text}'; write a number and a unit, such as \"15MiB\""
    else
      lib.floor (number * units.${lib.elemAt parts 2});

  hostCount = lib.min ((table "nixos").peer_hosts or 4) peers.count;
  # The peers in `hostCount` runs of as equal a length as can be.
  hostOf = number: (number - 1) * hostCount / peers.count + 1;

  signalling = {
    networks = [ micro ];
    modules.signalling = {
      port = signallingPort;
      networks = [ micro ];
    };
  };
  database = name: networks: {
    inherit name networks;
    inherit (postgres) database port;
    owner = postgres.user;
  };
  # Whoever operates the mesh does it from the origin's host, so it is in the peers' network, too.
  originHost = {
    networks = [
      origin.network
      micro
    ];
    modules.origin-db = database origin.name [ origin.network ];
  };
  edgeHost = edge: rec {
    networks = [
      edge.network
      origin.network
    ];
    modules.edge-db = database edge.name networks;
  };
  peerHost =
    number:
    let
      own = lib.filter (peer: hostOf peer == number) (lib.range 1 peers.count);
      reached = lib.filter (edge: lib.any (peer: lib.elem peer own) edge.peers) edges;
    in
    {
      networks = [ micro ] ++ map (edge: edge.network) reached;
      modules.peers = {
        instances = lib.listToAttrs (
          map (peer: lib.nameValuePair "${peers.prefix}-${toString peer}" (peers.port + peer)) own
        );
        networks = [ micro ];
        memoryMax = bytes peers.memory;
        cpuQuota = "${toString (lib.max 1 (lib.floor (peers.cpus * 100 + 0.5)))}%";
        tasksMax = peers.pids;
      };
    };

  songs = lib.imap1 (number: song: need "[[songs]] number ${toString number}" song "path") (
    read.songs or [ ]
  );
  graph = (peers.links or { }).import or null;
  beside = dirOf file;
  top = if root == null then beside else root;
in
{
  mesh = (table "mesh").name or "hopcast";
  # All networks, each once.
  networks = lib.unique ([ micro ] ++ [ origin.network ] ++ map (edge: edge.network) edges);
  hosts =
    lib.listToAttrs (
      [
        (lib.nameValuePair "signalling" signalling)
        (lib.nameValuePair origin.name originHost)
      ]
      ++ map (edge: lib.nameValuePair edge.name (edgeHost edge)) edges
    )
    // lib.listToAttrs (
      map (number: lib.nameValuePair "peers-${toString number}" (peerHost number)) (lib.range 1 hostCount)
    );
  # The file in the store, with the songs and the graph that it names beside it, and nothing else.
  file =
    if lib.isPath file then
      "${
        lib.fileset.toSource {
          root = top;
          fileset = lib.fileset.unions (
            [ file ] ++ map (song: beside + "/${song}") (songs ++ lib.optional (graph != null) graph)
          );
        }
      }${lib.removePrefix (toString top) (toString file)}"
    else
      file;
}
