# An edge database: its gateways read from it, the origin's rows come to it.
{ config, lib, ... }:
let
  cfg = config.services.hopcast.edge-db;
  database = import ./database.nix {
    inherit config lib cfg;
    what = "edge";
  };
in
{
  options.services.hopcast.edge-db = database.options;
  config = lib.mkIf cfg.enable database.config;
}
