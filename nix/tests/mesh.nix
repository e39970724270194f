# The whole mesh in NixOS VMs: what topology.toml says, on as many machines as it says.
{
  self,
  lib,
  pkgs,
  system,
  name,
  # The topology file, and a directory above it and its songs.
  file,
  root,
  # Each machine of peers, in MiB.
  memory,
}:
let
  inherit (self.packages.${system}.hopcast) programs;
  plan = self.lib.topology { inherit file root; };
  # A mesh for a test has no secret worth keeping.
  keys = pkgs.runCommand "hopcast-${plan.mesh}-test-keys" { nativeBuildInputs = [ programs ]; } ''
    export HOPCAST_STATE=$PWD/state
    mkdir -p "$HOPCAST_STATE/${plan.mesh}"
    printf '%064d\n' 7 >"$HOPCAST_STATE/${plan.mesh}/secret"
    hopcast generate nixos-keys --file ${plan.file} -o "$out"
  '';
  nodes = self.lib.nodes { inherit file keys root; };
  who = import ./who.nix { inherit lib plan; };
  inherit (who) origin victim survivor;
  # What the test driver calls a machine.
  variable = lib.replaceStrings [ "-" "." ] [ "_" "_" ];
  list = names: "[${lib.concatMapStringsSep ", " (name: "\"${name}\"") names}]";
in
{
  inherit name;
  nodes = lib.mapAttrs (host: module: {
    imports = [ module ];
    virtualisation.memorySize = if lib.elem host who.peers then memory else 512;
    environment.systemPackages = [
      programs
      pkgs.curl
      pkgs.netcat
    ];
  }) nodes;

  testScript =
    { nodes, ... }:
    let
      addresses = nodes.${origin}.services.hopcast.mesh.addresses;
      at = host: network: addresses.${host}.${network};
      micro = lib.head plan.hosts.signalling.networks;
      port = toString nodes.${origin}.services.hopcast.origin-db.port;
      instances = nodes.${survivor}.services.hopcast.peers.instances;
      heard = lib.head (lib.attrNames instances);
    in
    ''
      import json

      by_name = {${
        lib.concatMapStringsSep ", " (host: "\"${host}\": ${variable host}") (lib.attrNames plan.hosts)
      }}
      peer_hosts = ${list who.peers}
      # Each edge's address in its own network, and the machines that are not in it.
      edges = json.loads('${
        lib.toJSON (
          lib.mapAttrs (name: edge: [
            (at name edge.network)
            edge.strangers
          ]) who.edge
        )
      }')
      origin = by_name["${origin}"]
      verify = (
          "hopcast verify --backend nixos --file ${plan.file} --json"
          " --addresses ${
            nodes.${origin}.services.hopcast.origin-db.addresses
          } --secret ${keys}/${origin}/secret"
      )


      def verdict(text):
          return json.loads(text.strip().splitlines()[-1])


      start_all()

      with subtest("every unit is up and the song is on both edges"):
          by_name["signalling"].wait_for_unit("hopcast-signalling.service")
          for name in peer_hosts:
              by_name[name].wait_for_unit("hopcast-peers.target")
          origin.wait_for_unit("hopcast-populate.service", timeout=600)

      with subtest("the mesh is what the file says"):
          report = verdict(origin.succeed(verify))
          assert report["passed"] and report["segments_checked"] == report["peers"], report

      with subtest("nobody but an edge's own peers reaches it"):
          for name in peer_hosts:
              by_name[name].fail("nc -z -w 3 ${
                at origin (lib.head plan.hosts.${origin}.networks)
              } ${port}")
              by_name[name].fail("nc -z -w 3 ${at origin micro} ${port}")
          for address, names in edges.values():
              for name in names:
                  by_name[name].fail(f"nc -z -w 3 {address} ${port}")

      with subtest("a unit is as small as the plan says, and may do nothing"):
          unit = "hopcast-peer@${heard}.service"
          shown = by_name["${survivor}"].succeed(f"systemctl show -p MemoryMax -p DynamicUser {unit}")
          assert "MemoryMax=${
            toString nodes.${survivor}.services.hopcast.peers.memoryMax
          }" in shown, shown
          assert "DynamicUser=yes" in shown, shown

      with subtest("a machine of peers dies, and the others still play"):
          by_name["${victim}"].crash()
          # The server gives silent peers up after 10 s; the player's request is held meanwhile.
          origin.wait_until_succeeds(
              "curl -fsS --max-time 30 -o /dev/null http://${at survivor micro}:${toString instances.${heard}}/hls/demo/master.m3u8",
              timeout=120,
          )
          status, text = origin.execute(verify)
          report = verdict(text)
          # Its peers are missing, and that is said; every other peer gets its segment, with the right Via.
          assert status == 1 and not report["passed"], report
          assert report["peers"] > 0 and report["segments_checked"] == report["peers"], report
          failed = [check["name"] for check in report["checks"] if check["outcome"] != "passed"]
          assert failed == ["peers"], report

      with subtest("it comes back, and the mesh is whole again"):
          by_name["${victim}"].start()
          by_name["${victim}"].wait_for_unit("hopcast-peers.target")
          report = verdict(origin.wait_until_succeeds(verify, timeout=300))
          assert report["passed"], report
    '';
}
