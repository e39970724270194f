# Who is who among the hosts of a plan, for what is tried with all of them.
{ lib, plan }:
let
  hostsOf = module: lib.attrNames (lib.filterAttrs (_: host: host.modules ? ${module}) plan.hosts);
  own = edge: lib.head plan.hosts.${edge}.networks;
  isIn = network: host: lib.elem network plan.hosts.${host}.networks;
in
rec {
  peers = hostsOf "peers";
  origin = lib.head (hostsOf "origin-db");
  edges = hostsOf "edge-db";
  # Each edge with its own network, and the peers' hosts that are in it, or are not.
  edge = lib.genAttrs edges (name: {
    network = own name;
    gateways = lib.filter (isIn (own name)) peers;
    strangers = lib.filter (host: !(isIn (own name) host)) peers;
  });
  # A host without a gateway: when it is gone, every song can still be had.
  victim = lib.head (
    lib.filter (name: lib.length plan.hosts.${name}.networks == 1) peers ++ [ (lib.head peers) ]
  );
  survivor = lib.head (lib.filter (name: name != victim) peers);
}
